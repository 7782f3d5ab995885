"""D14: the control socket, as the daemon makes it, for whoever is not to have it.

A container that shares nothing with the node has no path to it; one that has the node's network sees the names of
abstract sockets there, which have neither owner nor mode (CVE-2020-15257); who sees the path by mistake is another
user. Each brings a control: the same try gets there where the socket is given away.
"""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from cellwall.attack.probe import Probe, layers
from cellwall.attack.rows.inputs import inherited_by_careless
from cellwall.attack.rows.shapes import Play, episode
from cellwall.attack.world import World
from cellwall.daemon.http.sockets import listening
from cellwall.errors import LabError
from cellwall.lab import Host

_USER = "61234"
_TRY = r"""
import os, socket, sys
root, user, *names = sys.argv[1:]
if root:
    os.chroot(root)
    os.chdir("/")
if user:
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
for name in names:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect("\0" + name[1:] if name[0] == "@" else name)
        except OSError:
            continue
        print(name)
"""


@contextmanager
def _served() -> Iterator[str]:
    """The path of a control socket that listens. Others may come as far as its directory."""
    above = tempfile.mkdtemp(prefix="cellwall-control-")
    os.chmod(above, 0o755)
    path = f"{above}/cellwall/api.sock"
    try:
        with listening(path, None):
            yield path
    finally:
        shutil.rmtree(above)


def _reached(host: Host, *names: str, root: str = "", user: str = "") -> list[str]:
    """Which of these sockets somebody gets connected to, who is root in `root`, or a user."""
    return host.run([sys.executable, "-I", "-c", _TRY, root, user, *names]).text.split()


def _by_path(w: World, token: bytes) -> bool:
    """A container: root, in a file system and a network of its own."""
    with _served() as path, tempfile.TemporaryDirectory(prefix="cellwall-container-") as own:
        if _reached(w.attacker.host, path) != [path]:
            raise LabError("a socket that shares a file system is not reached")
        return bool(_reached(w.attacker.host, path, path.lstrip("/"), f"/proc/1/root{path}", root=own))


def _by_name(w: World, token: bytes) -> bool:
    """A container with the node's network, and a file system of its own."""
    before = _abstract_names(w.node)
    with _served(), tempfile.TemporaryDirectory(prefix="cellwall-container-") as own:
        found = _reached(w.node, *_abstract_names(w.node) - before, root=own)
        with w.node.socket(socket.AF_UNIX, socket.SOCK_STREAM) as careless:
            careless.bind("\0" + token.decode())
            careless.listen()
            names = _abstract_names(w.node)
            if f"@{token.decode()}" not in _reached(w.node, *names, root=own):
                raise LabError("an abstract socket is not reached")
    return bool(found)


def _abstract_names(host: Host) -> set[str]:
    """Those of a network namespace, as whoever is in it reads them."""
    lines = host.run(["cat", "/proc/net/unix"]).text.splitlines()[1:]
    return {fields[7] for line in lines if len(fields := line.split()) == 8 and fields[7][0] == "@"}


def _as_user(w: World, token: bytes) -> bool:
    """Root in a user namespace is another user here, like this one."""
    with _served() as path:
        reached = _reached(w.node, path, user=_USER)
        os.chmod(os.path.dirname(path), 0o755)
        if _reached(w.node, path, user=_USER):
            return True  # by the mode of its directory alone
        os.chmod(path, 0o666)
        if _reached(w.node, path, user=_USER) != [path]:
            raise LabError("a socket that anybody may connect to is not reached")
    return bool(reached)


def _by_descriptor(w: World, token: bytes) -> bool:
    with _served():
        return bool(inherited_by_careless())


def _probes() -> Iterator[Probe]:
    rows: tuple[tuple[str, str, Play], ...] = (
        ("path", "a container that shares nothing with the node connects to the control socket", _by_path),
        ("name", "a container in the node's network finds an abstract name of the control socket", _by_name),
        ("user", "another user who sees the control socket connects to it", _as_user),
        ("inherited", "a child of the wall's inherits the control socket", _by_descriptor),
    )
    for name, title, play in rows:
        yield episode(f"D14-socket-{name}", title, layers("CTL"), play, wall_only=True)


PROBES: tuple[Probe, ...] = tuple(_probes())
