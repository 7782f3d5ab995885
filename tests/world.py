"""A lab with a wall, as tests speak of it. The test's thread is on the node for as long as the world is open.

A sandbox of a world is a namespace of the lab that the wall attached. What passed is judged by what arrived, never
by what the sender was told.
"""

import itertools
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from cellwall.adapters.sandbox import netns
from cellwall.api import Wall
from cellwall.config import record_settings
from cellwall.engine.requests import UpReport
from cellwall.lab import Lab, connect
from cellwall.lab.host import Host
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings
from cellwall.names import TABLE

PUBLIC4, PUBLIC6 = "151.101.1.69", "2a04:4e42::1"
PUBLIC = (PUBLIC4, PUBLIC6)
NAT_PORTS = range(10240, 30000)

_HELD: dict[str, str] = {}
"""The settings by which `--backend` has every world's wall held."""


def hold_walls_in(backend: str) -> None:
    """Have the walls of all worlds in nftables, iptables-nft or iptables-legacy, whatever their settings say."""
    name, _, variant = backend.partition("-")
    _HELD.update({"backend": name, "iptables": variant or "auto"})


def in_iptables() -> bool:
    """Whether `--backend` has all walls in iptables."""
    return _HELD.get("backend") == "iptables"


def about_nftables(what: str) -> None:
    """Skip what follows where the walls are in iptables: it looks at, or changes, rules of nftables."""
    if in_iptables():
        pytest.skip(f"nftables only: {what}")


_LONG, _MOMENT = 10.0, 0.2
"""Seconds."""

_MACHINE = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
"""The namespace that the tests were started in. A world is opened from there even by a test that is on the node of
another one: a lab compares the namespace it was opened from, and a node under test does not stay as it was."""


class Sandbox:
    """A host of the lab, and the endpoint that the wall made of it."""

    def __init__(self, host: Host, endpoint: Endpoint) -> None:
        self.host = host
        self.endpoint = endpoint
        self.name = endpoint.key.container_id

    def address(self, family: int) -> str:
        return str(self.endpoint.address4 if family == 4 else self.endpoint.address6)


class World:
    """One node with its wall."""

    def __init__(self, lab: Lab, wall: Wall, report: UpReport | None = None) -> None:
        self.lab = lab
        self.wall = wall
        self.report = report
        self._numbers = itertools.count(1)
        self._tokens = itertools.count(1)

    def token(self, name: str = "t") -> bytes:
        """A payload that no other packet of this world has."""
        return f"<{name}-{next(self._tokens)}-{os.urandom(4).hex()}>".encode()

    def host(self, name: str = "c") -> Host:
        """A namespace that nothing is attached to yet."""
        return self.lab.sandbox(f"{name}-{next(self._numbers)}")

    def attach(self, name: str = "c", *, host: Host | None = None, **options: Any) -> Sandbox:
        """A new sandbox; the options are those of `Wall.attach`."""
        place = host or self.host(name)
        container = place.name if host is None else f"{name}-{next(self._numbers)}"
        return Sandbox(place, self.wall.attach(container, netns=place.netns, **options))

    def detach(self, sandbox: Sandbox) -> bool:
        return self.wall.detach(sandbox.name)


@contextmanager
def open_world(*, settings: Settings | None = None, ipv6: bool = True, up: bool = True) -> Iterator[World]:
    """A world of its own; it ends with everything detached and nothing left."""
    with (
        netns.entered(_MACHINE),
        Lab(ipv6=ipv6) as lab,
        lab.node.enter(),
        Wall.open(root=lab.root, settings=msgspec.structs.replace(settings or Settings(), **_HELD)) as wall,
    ):
        report = wall.up() if up else None
        yield World(lab, wall, report)


def rewired(wall: Wall, **adapters: object) -> Wall:
    """The same node through other adapters; it ends with the wall it came from. Other settings are those of a
    configuration that somebody changed."""
    if isinstance(settings := adapters.get("settings"), Settings):
        adapters["settings_text"] = record_settings(settings)
    site = msgspec.structs.replace(wall._site, **adapters)
    given = None if "settings" in adapters else site.settings_text
    configured = msgspec.structs.replace(wall._caller.configured, read=lambda: site.settings, given=given)
    return Wall(wall.paths, site, lambda: None, configured)


class Wrapped:
    """An adapter with some of its methods replaced; everything else is the adapter's own."""

    def __init__(self, adapter: Any, **replaced: Callable[..., Any]) -> None:
        object.__setattr__(self, "_adapter", adapter)
        object.__setattr__(self, "_replaced", replaced)

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(self._adapter, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._adapter, name, value)


def ruleset(world: World) -> str:
    """The node's whole nft ruleset without what traffic changes."""
    about_nftables("the text of the ruleset")
    return without_what_packets_add(world.lab.node.run(["nft", "-s", "list", "ruleset"]).text)


def without_what_packets_add(text: str) -> str:
    """A listed ruleset without the elements of its dynamic sets, which come with packets and go with time."""
    return re.sub(r"(\n\t\tflags dynamic[^}]*?)\n\t\telements = {[^}]*}", r"\1", text)


class Told(NamedTuple):
    """Where a rule is, what it says, and text of nft's JSON of it that others with the same comment do not have."""

    chain: str
    comment: str
    having: str = ""


def take_out(world: World, comment: str, *, chain: str = "", having: str = "") -> None:
    """Delete every live rule of ours with that comment, and with that text in nft's JSON of it, as a control:
    what it stopped gets through then. The wall's next operation that looks at the rules puts it back."""
    take_all_out(world, [Told(chain, comment, having)])


def take_all_out(world: World, told: Iterable[Told]) -> None:
    """Delete the live rules that are told of, at once; each must be there. A chain "" is any."""
    _delete(world, _live_rules(world, told))


@contextmanager
def taken_out(world: World, told: Sequence[Told]) -> Iterator[None]:
    """Without these live rules while the block runs; afterwards their chains are as they were, and what is in sets and
    what is known of flows is left alone."""
    rules = _live_rules(world, told)
    node = world.lab.node
    chains = sorted({(rule["family"], TABLE, rule["chain"]) for rule in rules})

    def listed() -> str:
        return "".join(node.run(["nft", "-s", "list", "chain", *chain]).text for chain in chains)

    whole = listed()
    _delete(world, rules)
    yield
    empty = "".join(f"flush chain {' '.join(chain)}\n" for chain in chains)
    node.run(["nft", "-f", "-"], input=f"{empty}{whole}".encode())
    assert listed() == whole


def _delete(world: World, rules: Iterable[dict[str, Any]]) -> None:
    lines = [f"delete rule {rule['family']} {TABLE} {rule['chain']} handle {rule['handle']}" for rule in rules]
    world.lab.node.run(["nft", "-f", "-"], input="\n".join(lines).encode())


def _live_rules(world: World, told: Iterable[Told]) -> list[dict[str, Any]]:
    about_nftables("without one rule")
    listed = json.loads(world.lab.node.run(["nft", "-ja", "list", "ruleset"]).text)["nftables"]
    rules = [entry["rule"] for entry in listed if "rule" in entry and entry["rule"]["table"] == TABLE]
    found = []
    for chain, comment, having in told:
        known = [rule for rule in rules if rule.get("comment") == comment and chain in ("", rule["chain"])]
        those = [rule for rule in known if having in json.dumps(rule)]
        assert those, f"no rule says {comment!r}"
        found += those
    return found


def unlatch(world: World) -> None:
    """Take away what holds without rules, as a control: it stops whatever the rules before it did not judge."""
    for side in ("ingress", "egress"):
        world.lab.node.run(["tc", "filter", "del", "dev", world.wall.settings.network.bridge, side, "pref", "2"])


def public(family: int) -> str:
    return PUBLIC4 if family == 4 else PUBLIC6


class Stream:
    """An open flow to an echo server, by which one asks again and again: TCP or UDP."""

    def __init__(self, host: Host, address: str, port: int, *, udp: bool = False, source_port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._sock = host.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        if source_port:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind(("", source_port))
        self._sock.settimeout(1.0)
        self._sock.connect((address, port))

    def ask(self, token: bytes, timeout: float = 5.0) -> bool:
        """Whether `token` was echoed."""
        self._sock.settimeout(timeout)
        got = b""
        try:
            self._sock.send(token)
            while token not in got:
                data = self._sock.recv(1 << 16)
                if not data:
                    return False
                got += data
        except OSError:
            return False
        return True

    def say(self, token: bytes) -> None:
        """Send `token`, whatever becomes of it."""
        try:
            self._sock.send(token)
        except OSError:
            return

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sent_again(sock: socket.socket) -> int:
    """How many segments of a connection were sent more than once, its first among them (tcpi_total_retrans): what one
    waits for of whom the wall drops something, on a machine however slow."""
    told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(told[100:104], sys.byteorder)


def is_answered(host: Host, address: str, port: int, *, expected: bool, udp: bool = False) -> bool:
    """Whether what is asked there is answered. An answer that is expected is waited for as long as a busy machine may
    take, and one that is not for a moment."""
    return connect(host, address, port, udp=udp, timeout=_LONG if expected else _MOMENT).kind == "answer"


def write_setting(host: Host, name: str, value: str) -> None:
    with host.enter():
        Path("/proc/sys", name).write_text(value)


def assert_connection(host: Host, address: str, port: int, *, udp: bool = False, source: Any = None) -> bytes:
    answer = connect(host, address, port, udp=udp, source=source, timeout=_LONG)
    assert answer.kind == "answer", f"{host} to {address} {port}: {answer}"
    return answer.data


def assert_no_connection(host: Host, address: str, port: int, *, udp: bool = False, timeout: float = 0.3) -> str:
    answer = connect(host, address, port, udp=udp, timeout=timeout)
    assert answer.kind != "answer", f"{host} to {address} {port}: {answer}"
    return answer.kind
