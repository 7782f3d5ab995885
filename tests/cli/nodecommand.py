"""The `cellwall` command inside a lab's node."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from cellwall.adapters.sandbox.netns import entered
from cellwall.lab import Lab
from world import without_what_packets_add

SOURCE = Path(__file__).parents[2] / "src"
_LONGEST = 60
"""Seconds of a command."""
_MACHINE = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Answer(msgspec.Struct, frozen=True):
    """What one command said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


class Command:
    """`cellwall` in the node of a lab, with the lab's root."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def argv(self, *arguments: str) -> list[str]:
        start = [f"--net={self.lab.node.netns}", sys.executable, "-m", "cellwall.cli.main"]
        return ["nsenter", *start, "--root", str(self.lab.root), *arguments]

    def __call__(self, *arguments: str, **environ: str) -> Answer:
        given = {**os.environ, "PYTHONPATH": str(SOURCE), **environ}
        if any(name.startswith("PYTHON") for name in environ):
            return self._start(arguments, given)
        return _forking().run(self.lab, ("--root", str(self.lab.root), *arguments), given)

    def _start(self, arguments: tuple[str, ...], environ: dict[str, str]) -> Answer:
        """By an interpreter of its own, which is told something by its environment."""
        done = subprocess.run(
            self.argv(*arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST,
            env=environ,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def snapshot(self) -> tuple[str, str, str]:
        """Everything a refused request must leave alone: endpoints, links, rules."""
        run = self.lab.node.run
        links = run(["ip", "-o", "link"]).text
        rules = without_what_packets_add(run(["nft", "--stateless", "list", "ruleset"]).text)
        return self("list", "--json").out, links, rules


class _Forking:
    """The process that is forked for each command (see `forking`), for the length of a test run."""

    def __init__(self) -> None:
        self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking.settimeout(_LONGEST)
        program = Path(__file__).with_name("forking.py")
        with entered(_MACHINE), theirs:
            # In no namespace of a lab: who ends a lab ends what is inside.
            self._process = subprocess.Popen(
                [sys.executable, program, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
            )
        atexit.register(self._end)

    def run(self, lab: Lab, arguments: tuple[str, ...], environ: dict[str, str]) -> Answer:
        request = json.dumps({"arguments": arguments, "environ": environ}).encode()
        namespace = os.open(lab.node.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
                socket.send_fds(self._asking, [request], [namespace, out.fileno(), err.fileno()])
                status = int(self._asking.recv(64))
                out.seek(0)
                err.seek(0)
                return Answer(status, out.read(), err.read())
        except TimeoutError:
            self._end()  # an answer that comes yet is nobody's
            _forking.cache_clear()
            raise
        finally:
            os.close(namespace)

    def _end(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._asking.close()


@cache
def _forking() -> _Forking:
    return _Forking()
