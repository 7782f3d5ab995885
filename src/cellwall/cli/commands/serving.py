"""serve: be the one process that writes on this node, and do what others ask for over a socket."""

import os
import signal
from functools import partial

from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.errors import Unsupported

_DESCRIPTION = """\
Be the one process that writes on this node: do what is asked for over the socket run/cellwall-api/cellwall.sock, and
put back what others take away from the wall, as `watch` does. node.mode must be daemon. Root may ask for anything, the
members of daemon.group for what daemon.allow grants them. Brings up nothing that is down. SIGTERM and SIGINT end it,
once what was begun is done; SIGHUP has it read daemon.group and daemon.allow anew. While it is not there the wall
stands as it stood, and who asks for something waits.
"""


def register(commands: "Commands[Parser]") -> None:
    """Add the command."""
    parser = add_command(commands, "serve", "be the daemon that writes on this node", description=_DESCRIPTION)
    parser.set_defaults(act=_serve)


def _serve(invocation: Invocation) -> Outcome:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is to be read anew is yet to be read
    invocation.loaded()  # what is wrong with it is said before the engine is loaded
    try:
        from cellwall.daemon.life import serve
    except ModuleNotFoundError as error:
        raise Unsupported(f"the daemon needs the Python package {error.name}: install cellwall[daemon]") from error
    from cellwall.cni.served import answer_over

    serve(invocation.paths, invocation.loaded, os.environ, cni=lambda wall: partial(answer_over, wall))
    return Outcome()
