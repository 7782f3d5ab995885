"""run: a command with an interface of its own behind the wall, for as long as it lives."""

import argparse
import logging
import os
from typing import TYPE_CHECKING

from cellwall.cli import exits
from cellwall.cli.commands.attachments import add_endpoint_options, policy_options
from cellwall.cli.invocation import Invocation, Outcome, parse_requested
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.errors import Conflict, InvalidSpec, NotFound
from cellwall.model.endpoint import Endpoint, parse_binding
from cellwall.model.identifiers import parse_container_id

if TYPE_CHECKING:
    from cellwall.adapters.sandbox.owners import Owner

_DESCRIPTION = """\
Run a command in a network namespace of its own behind the wall, with the wall's resolvers in /etc/resolv.conf.

NOTHING ELSE IS ISOLATED. The command has your user, your files, your processes and your capabilities; run as root it
can leave its namespace. The wall holds what it sends over the network, not the command. Untrusted code belongs into a
container or a virtual machine whose interface cellwall attaches.

Signals are passed on, the exit status is the command's (128 + n after signal n; 126: cannot be executed, 127: not
found). The command is killed when cellwall is, and the next `cellwall reconcile` clears up. What it leaves running at
its end, in the background, is not ended, and has no network from then on.
"""

_log = logging.getLogger(__name__)


def register(commands: "Commands[Parser]") -> None:
    """Add the command."""
    run = add_command(
        commands, "run", "run a command behind the wall (isolates the network only)", description=_DESCRIPTION
    )
    run.add_argument("--name", metavar="ID", help="container id; default: run- and a random number")
    add_endpoint_options(run)
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the command and its arguments")
    run.set_defaults(act=_run)


def _run(invocation: Invocation) -> Outcome:
    # Imported here: the two load libc by ctypes, which no other command needs.
    from cellwall.adapters.sandbox import owners, sandboxed

    given = invocation.arguments
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        raise InvalidSpec("command", "", "is missing; write it behind --")
    container_id = parse_container_id(given.name or f"run-{os.urandom(4).hex()}", "--name")
    sandboxed.hold_signals()
    owner = owners.claim(invocation.paths.run, container_id)
    try:
        endpoint = _attach(invocation, owner)
    except BaseException:
        # What an earlier process left under this name may still be attached: the lock file is all that tells.
        owner.release() if owner.inherited else owner.forget()
        raise
    try:
        resolv_conf = owner.beside(".resolv.conf")
        resolv_conf.write_text(_resolver_text(invocation))
        resolv_conf.chmod(0o644)  # the command, or what it starts, may be another user
        if not sandboxed.has_resolver_file():
            _log.warning("/etc/resolv.conf does not exist here: the command has no resolvers")
        status = sandboxed.wait(sandboxed.start(command, sandbox=endpoint.netns, resolv_conf=resolv_conf))
        return Outcome(status=status if status >= 0 else 128 - status)
    except sandboxed.ExecFailed as error:
        _log.error("%s", error)
        status = exits.COMMAND_NOT_FOUND if error.missing else exits.NOT_EXECUTABLE
        kind = "not-found" if error.missing else "failed"
        return Outcome({"error": {"kind": kind, "status": status, "message": str(error)}}, status=status)
    finally:
        _detach(invocation, owner)


def _attach(invocation: Invocation, owner: "Owner") -> Endpoint:
    given = invocation.arguments
    address4, address6 = parse_requested(given.ip)
    bindings = [parse_binding(text, "--expose", auto=True) for text in given.expose]
    with invocation.wall_in_force() as wall:
        if owner.inherited:
            wall.detach(owner.container_id)
        try:
            wall.endpoint(owner.container_id)
        except NotFound:
            return wall.attach(
                owner.container_id,
                tenant=given.tenant,
                expose=bindings,
                address4=address4,
                address6=address6,
                **policy_options(given),
            )
        # `attach` would hand out the other's sandbox, and the end of this command would close it.
        raise Conflict(f"container {owner.container_id}: is attached already")


def _detach(invocation: Invocation, owner: "Owner") -> None:
    """Close the sandbox. A failure is said and left to the next reconcile: the exit status is the command's."""
    try:
        with invocation.wall_to_close() as wall:
            wall.detach(owner.container_id)
    except Exception as error:
        _log.error("%s: not detached, reconcile will do it: %s", owner.container_id, error)
        owner.release()
    else:
        owner.forget()


def _resolver_text(invocation: Invocation) -> str:
    with invocation.wall() as wall:
        return "".join(f"nameserver {address}\n" for address in wall.dns())
