"""D12, D13, D14: what a tenant names, and what the wall's own processes leave open.

All of it is stopped by the program and not by a layer of rules, so each brings a control: the same name, cut short or
pasted into a text as careless programs do it, does collide or does run.
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from cellwall.adapters import process
from cellwall.api import Wall
from cellwall.attack.probe import Probe, layers
from cellwall.attack.rows.shapes import Play, episode, wall_of
from cellwall.attack.rows.windows import newcomer
from cellwall.attack.world import World
from cellwall.errors import CellwallError, InvalidSpec, LabError
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.names import host_link


def _episode(name: str, title: str, play: Play) -> Probe:
    return episode(name, title, layers("CTL"), play, wall_only=True)


# ---------------------------------------------------------------- D12: names that collide


def _attached(w: World, stack: ExitStack, container_id: str) -> Endpoint:
    host = stack.enter_context(newcomer(w))
    endpoint = wall_of(w).attach(container_id, netns=host.netns)
    stack.callback(wall_of(w).detach, container_id)
    return endpoint


def _confused(w: World, ids: tuple[str, str]) -> bool:
    """Whether the second container gets anything of the first one's."""
    with ExitStack() as stack:
        first, second = (_attached(w, stack, name) for name in ids)
        own = [(e.host_link, e.host_index, e.mac, e.address4, e.address6, e.generation) for e in (first, second)]
        shared = [one for one, other in zip(*own, strict=True) if one == other]
        return bool(shared) or any(wall_of(w).verify(name) for name in ids)


def _short_collision(prefix: str) -> tuple[str, str]:
    """Two ids whose names agree in their first five hexadecimal digits, as common plugins cut them."""
    seen: dict[str, str] = {}
    for number in count():
        name = f"tenant-{number}"
        start = host_link(prefix, EndpointKey(name, "eth0"))[len(prefix) :][:5]
        if start in seen:
            return seen[start], name
        seen[start] = name
    raise AssertionError  # count() has no end


def _collisions() -> Iterator[Probe]:
    long = "x" * 252

    def cut(w: World, token: bytes) -> bool:
        return _confused(w, (f"{long}a", f"{long}b"))

    def hashed(w: World, token: bytes) -> bool:
        ids = _short_collision(wall_of(w).settings.network.veth_prefix)
        return _confused(w, ids)

    def cased(w: World, token: bytes) -> bool:
        return _confused(w, ("Web.1_a-b", "web.1_a-b"))

    yield _episode("D12-cut", "two ids that differ in their 253rd character only", cut)
    yield _episode("D12-hashed", "two ids whose names agree in their first five digits", hashed)
    yield _episode("D12-cased", "two ids that differ in case only", cased)
    yield _episode("D12-squatted", "a link that somebody made under the name that a container will get", _squatted)
    yield _episode("D12-file", "an id that is the file name of another's second interface", _same_file)


def _squatted(w: World, token: bytes) -> bool:
    """The wall must neither take the link over nor change it."""
    name = f"squatted-{token[1:7].decode()}"
    link = host_link(wall_of(w).settings.network.veth_prefix, EndpointKey(name, "eth0"))
    w.node.run(["ip", "link", "add", link, "type", "veth", "peer", "name", "squatter"])
    try:
        before = _link(w, link)
        with newcomer(w) as host, suppress(CellwallError):
            taken = wall_of(w).attach(name, netns=host.netns).host_link == link
            wall_of(w).detach(name)
            return taken or _link(w, link) != before
        return _link(w, link) != before
    finally:
        w.node.run(["ip", "link", "del", link], check=False)


def _link(w: World, name: str) -> dict[str, Any]:
    shown = w.node.run(["ip", "-json", "link", "show", "dev", name], check=False).stdout
    links = msgspec.json.decode(shown or b"[]", type=list[dict[str, Any]])
    return links[0] if links else {}


def _same_file(w: World, token: bytes) -> bool:
    wall = wall_of(w)
    with ExitStack() as stack:
        first = wall.attach("pair", ifname="net1")
        stack.callback(wall.detach, "pair", ifname="net1")
        paths = {first.netns}
        for name in ("pair.net1", "pair-net1", "pair_net1"):
            paths.add(wall.attach(name).netns)
            stack.callback(wall.detach, name)
        return len(paths) < 4


# ---------------------------------------------------------------- D13: injection

_EVIL = "evil_cellwall"


def _texts(w: World) -> dict[str, str]:
    """Names that say something else in somebody's language; some make a table, some a file under the lab's root."""
    touch = f"touch {w.lab.root}/{_EVIL}"
    return {
        "rule": f'a"\nadd table inet {_EVIL}\nadd rule inet bystander c accept comment "b',
        "line": f"a\nadd table inet {_EVIL}",
        "command": f"$({touch})",
        "statement": f"; {touch} ;",
        "option": "--help",
        "path": f"../../{_EVIL}",
        "wildcard": "b9h*",
        "quote": 'a"b',
        "zero": "a\0b",
        "wide": "\uff41bc",
        "bell": "a\ab",
        "space": "a b",
        "empty": "",
        "long": "a" * 254,
    }


def _injections() -> Iterator[Probe]:
    fields: dict[str, Callable[[Wall, Path, str], object]] = {
        "id": lambda wall, netns, text: wall.attach(text, netns=netns),
        "tenant": lambda wall, netns, text: wall.attach("named", netns=netns, tenant=text),
        "interface": lambda wall, netns, text: wall.attach("named", netns=netns, ifname=text),
        "port": lambda wall, netns, text: wall.attach("named", netns=netns, expose=[f"80:80{text}"]),
        "client": lambda wall, netns, text: wall.attach("named", netns=netns, expose=[f"8081:80/tcp@{text}"]),
    }
    for field, attach in fields.items():

        def play(
            w: World, token: bytes, field: str = field, attach: Callable[[Wall, Path, str], object] = attach
        ) -> bool:
            texts = [text for name, text in _texts(w).items() if (field, name) != ("port", "empty")]
            _prove_potent(w)
            taken = [text for text in texts if _taken(w, attach, text)]
            return bool(taken) or _happened(w)

        yield _episode(f"D13-{field}", f"names that are rules, commands or paths elsewhere, as {field}", play)
    yield _episode("D13-renamed", "a container gives its own interface a name that is a rule", _renamed)


def _taken(w: World, attach: Callable[[Wall, Path, str], object], text: str) -> bool:
    """Whether the wall takes such a name at all; there is none that needs it."""
    with newcomer(w) as host, suppress(InvalidSpec):
        endpoint = attach(wall_of(w), host.netns, text)
        assert isinstance(endpoint, Endpoint)
        wall_of(w).detach(endpoint.key.container_id, ifname=endpoint.key.ifname)
        return True
    return False


def _happened(w: World) -> bool:
    """Whether a name did what it says."""
    tables = w.node.run(["nft", "list", "tables"]).text
    files = [path for path in (w.lab.root.parent / _EVIL, *w.lab.root.rglob(_EVIL)) if path.exists()]
    return _EVIL in tables or bool(files)


def _prove_potent(w: World) -> None:
    """The control: pasted into a rule and into a command line, the names do what they say. Cleaned up afterwards."""
    texts = _texts(w)
    pasted = "add table inet bystander\nadd chain inet bystander c\n"
    pasted += f'add rule inet bystander c accept comment "{texts["rule"]}"\n'
    w.node.run(["nft", "-f", "-"], input=pasted.encode())
    made_table = _EVIL in w.node.run(["nft", "list", "tables"]).text
    for table in (_EVIL, "bystander"):
        w.node.run(["nft", "delete", "table", "inet", table], check=False)
    w.node.run(["sh", "-c", f"true {texts['command']}"])
    made_file = (w.lab.root / _EVIL).exists()
    (w.lab.root / _EVIL).unlink(missing_ok=True)
    if not (made_table and made_file):
        raise LabError("names that are said to be a rule and a command are none")


def _renamed(w: World, token: bytes) -> bool:
    """The interface is the container's own: whatever it is called, the node's operations go on."""
    wall = wall_of(w)
    _prove_potent(w)
    with newcomer(w) as host:
        wall.attach(host.name, netns=host.netns)
        host.run(["ip", "link", "set", "eth0", "down"])
        host.run(["ip", "link", "set", "eth0", "name", 'a";#$(x)'])
        host.run(["ip", "link", "set", 'a";#$(x)', "alias", _texts(w)["rule"]])
        wall.verify(host.name)
        wall.reconcile()
        return not wall.detach(host.name) or _happened(w)


# ---------------------------------------------------------------- D14: descriptors


_TELLING = ("net:[", "socket:[", "/state.db", "/writer.lock", "/netns/")
"""What a child must not inherit: namespaces, netlink and packet sockets, the journal and its lock."""


def _inherited(argv: Callable[[Sequence[str]], bytes]) -> list[str]:
    """What a child that was started this way has open."""
    shown = argv(["ls", "-l", "/proc/self/fd"]).decode(errors="replace")
    return [line.rpartition(" -> ")[2] for line in shown.splitlines() if any(word in line for word in _TELLING)]


def _careless(argv: Sequence[str]) -> bytes:
    """A child as a program starts it that does not close what it has open."""
    return subprocess.run(argv, close_fds=False, stdout=subprocess.PIPE, check=True).stdout


def inherited_by_careless() -> list[str]:
    """What such a child has open that it should not; LabError where what it has is not seen."""
    with open("/proc/self/ns/net") as namespace:
        os.set_inheritable(namespace.fileno(), True)
        if not _inherited(_careless):
            raise LabError("a descriptor that is inherited is not seen")
    return _inherited(_careless)


def _leaks(w: World, token: bytes) -> bool:
    with newcomer(w) as host:
        wall_of(w).attach(host.name, netns=host.netns)
        found = inherited_by_careless() + _inherited(lambda argv: process.run(argv).stdout)
        wall_of(w).detach(host.name)
    return bool(found)


def _descriptors() -> Iterator[Probe]:
    yield _episode("D14-descriptors", "a child of the wall's inherits namespaces, sockets or the journal", _leaks)


PROBES: tuple[Probe, ...] = (*_collisions(), *_injections(), *_descriptors())
