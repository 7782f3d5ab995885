"""`cellwall`, loaded once and forked for each command line: a command that starts an interpreter of its own spends most
of its time on loading the same modules again.

Run as a program with the number of a socket. Each request is a JSON document, and with it the descriptors of the
network namespace, of standard output and of standard error; the answer to it is the exit status. A command is a process
of its own that runs `main` as the console script does, from the command line of the process to the interpreter's end.

What it cannot find: a module that a command uses and does not import, as all are loaded here. `test_alone` has each
command's module answer --help alone; what a command imports only once it acts is not asked there.
"""

import gc
import importlib
import json
import os
import pkgutil
import socket
import sys
from typing import Any, NoReturn

import cellwall.adapters
import cellwall.api
import cellwall.cli.main
import cellwall.client
from cellwall.adapters.sandbox.netns import entered

_LONGEST = 1 << 18
"""Bytes of a request, the environment among them."""
_LOADED = (cellwall.adapters, cellwall.api, cellwall.cli, cellwall.client)


def load() -> None:
    """What commands load, before they are asked for."""
    for package in _LOADED:
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def serve(asked: socket.socket) -> None:
    """Answer until nobody asks any more."""
    while True:
        raw, fds, _, _ = socket.recv_fds(asked, _LONGEST, 3)
        if not raw:
            return
        child = os.fork()
        if child == 0:
            asked.close()
            become(json.loads(raw), *fds)
        for fd in fds:
            os.close(fd)
        _, status = os.waitpid(child, 0)
        asked.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(request: dict[str, Any], namespace: int, out: int, err: int) -> NoReturn:
    """Be that command, in that namespace; ends the process."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv[1:] = request["arguments"]
    with entered(namespace):
        os.close(namespace)
        sys.exit(cellwall.cli.main.main())


if __name__ == "__main__":
    asked = socket.socket(fileno=int(sys.argv.pop(1)))
    load()
    gc.freeze()  # what is never looked at again is never copied
    serve(asked)
