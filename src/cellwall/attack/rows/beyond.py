"""D16: the node's links, past every rule, by the number that a veth gives a sandbox for the node's namespace.

No network layer stops this: what does is a user namespace of the sandbox's own. Without one, CAP_NET_ADMIN in the
sandbox is CAP_NET_ADMIN on the node, and the control shows it.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from cellwall.attack.probe import Probe, layers
from cellwall.attack.rows.shapes import episode, wall_of
from cellwall.attack.world import World
from cellwall.errors import LabError

_NUMBERS = count(1)
_PROGRAM = (sys.executable, "-m", "cellwall.attack.reach")


@contextmanager
def _prize(w: World) -> Iterator[str]:
    """A link of the node that nobody needs."""
    name = f"prize{next(_NUMBERS)}"
    w.node.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"])
    try:
        yield name
    finally:
        w.node.run(["ip", "link", "del", name], check=False)


@contextmanager
def _sandboxed(w: World, link: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The program in a sandbox that is owned by a user namespace of its own, attached."""
    wall = wall_of(w)
    owned = ("unshare", "--user", "--map-root-user", "--net")
    program = w.node.popen([*owned, *_PROGRAM, link], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    name = f"owned{next(_NUMBERS)}"
    try:
        assert program.stdout is not None
        program.stdout.readline()  # from here on the namespaces are there
        wall.attach(name, netns=f"/proc/{program.pid}/ns/net")
        yield program
    finally:
        wall.detach(name)
        program.communicate(timeout=10)


def _there(w: World, link: str) -> bool:
    return w.node.run(["ip", "link", "show", "dev", link], check=False).returncode == 0


def _deletes(w: World, token: bytes) -> bool:
    with _prize(w) as link, _sandboxed(w, link) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"delete\n")
        program.stdin.flush()
        answer = int(program.stdout.readline())
        through = answer == 0 or not _there(w, link)
        _prove(w, program.pid, link)
        return through


def _prove(w: World, pid: int, link: str) -> None:
    """The control: the same program, in the same network namespace, with the node's own user namespace."""
    if _there(w, link):
        w.node.run(["nsenter", f"--net=/proc/{pid}/ns/net", *_PROGRAM, link], input=b"delete\n")
        if _there(w, link):
            raise LabError("a process with CAP_NET_ADMIN on the node does not reach its links either")


PROBES: tuple[Probe, ...] = (
    episode(
        "D16-delete-link",
        "root of a sandbox, in a user namespace of its own, deletes a link of the node",
        layers(),
        _deletes,
        kernel="the kernel asks for CAP_NET_ADMIN in the user namespace that owns the node's network",
        wall_only=True,
    ),
)
