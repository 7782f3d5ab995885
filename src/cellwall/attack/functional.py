"""What a sandbox must be able to do: a wall that blocks everything is no wall.

Owns: the servers that the work is done with. Like an attack, work is judged by who received what: the server must
have seen the token, and the client its answer.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import msgspec

from cellwall.attack.stage import PUBLISHED, PUBLISHED_TO, Stage
from cellwall.errors import LabError
from cellwall.lab import Host, Services, connect, ping
from cellwall.lab import addresses as at
from cellwall.lab.dns import framed, question
from cellwall.lab.transfer import echoed_bytes

FAMILIES = (4, 6)
_ECHO = 7
_PATIENCE = 2.0
_PUBLIC = {4: at.PUBLIC4[2], 6: at.PUBLIC6[2]}
_RESOLVER = {4: at.RESOLVERS4[0], 6: at.RESOLVERS6[0]}
_NARROW = {4: "104.16.0.2", 6: "2606:4700:10::2"}
_NARROW_MTU, _MTU = 1300, 1500
_MEGABYTE = 1 << 20


class Workplace(NamedTuple):
    """A stage with servers running: on the Internet, in the victim, and behind a narrow link of the Internet."""

    stage: Stage
    internet: Services
    victim: Services


class Work(msgspec.Struct, frozen=True):
    """One thing that must work. `do` returns what went wrong, or nothing."""

    id: str
    title: str
    do: Callable[[Workplace], str]
    published: bool = False


class Done(msgspec.Struct, frozen=True):
    """What became of it: `failure` is empty where it works."""

    id: str
    title: str
    failure: str


def work(stage: Stage) -> tuple[Done, ...]:
    """Everything that this stage offers, done once."""
    with _workplace(stage) as place:
        offered = [task for task in WORK if stage.publishes or not task.published]
        return tuple(Done(task.id, task.title, _attempt(task, place)) for task in offered)


def _attempt(task: Work, place: Workplace) -> str:
    try:
        return task.do(place)
    except (LabError, OSError) as error:
        return f"{type(error).__name__}: {error}"


@contextmanager
def _workplace(stage: Stage) -> Iterator[Workplace]:
    lab, victim = stage.lab, stage.world.victim.host
    ports = [_ECHO]
    narrow = _narrow_host(stage)
    with (
        lab.internet.serve(tcp=ports, udp=ports) as internet,
        victim.serve(tcp=[PUBLISHED_TO], udp=[PUBLISHED_TO]) as published,
        narrow.serve(tcp=ports, udp=ports),
    ):
        yield Workplace(stage, internet, published)


def _narrow_host(stage: Stage) -> Host:
    """A host behind a link of 1,300 bytes on the far side of the Internet's router."""
    internet, far = stage.lab.internet, stage.lab.sandbox("narrow")
    mtu = str(_NARROW_MTU)
    router = [
        f"link add narrow mtu {mtu} type veth peer name eth0 mtu {mtu} netns {far.netns.name}",
        "address add 104.16.0.1/24 dev narrow",
        "address add 2606:4700:10::1/64 dev narrow nodad",
        "link set narrow up",
    ]
    inside = [
        f"address add {_NARROW[4]}/24 dev eth0",
        f"address add {_NARROW[6]}/64 dev eth0 nodad",
        "link set eth0 up",
        "route add default via 104.16.0.1",
        "route add default via 2606:4700:10::1",
    ]
    for host, lines in ((internet, router), (far, inside)):
        host.ip(lines)
    internet.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
    return far


# ---------------------------------------------------------------- the work


def _served(client: Host, address: str, port: int, services: Services, *, udp: bool, name: str) -> str:
    """Ask a server for an echo."""
    token = f"<work {name}>".encode()
    answer = connect(client, address, port, udp=udp, payload=token, timeout=_PATIENCE)
    if not services.saw(token):
        return f"the server saw nothing; the client: {answer.kind}"
    return "" if token in answer.data else f"the server was reached, its answer was not: {answer.kind}"


def _egress() -> Iterator[Work]:
    for family in FAMILIES:
        for protocol in ("tcp", "udp"):

            def ask(place: Workplace, family: int = family, protocol: str = protocol) -> str:
                client = place.stage.world.attacker.host
                name = f"egress {protocol} {family}"
                return _served(client, _PUBLIC[family], _ECHO, place.internet, udp=protocol == "udp", name=name)

            yield Work(f"egress-{protocol}-v{family}", f"IPv{family} {protocol.upper()} to the Internet", ask)

        def echo(place: Workplace, family: int = family) -> str:
            answer = ping(place.stage.world.attacker.host, _PUBLIC[family], timeout=_PATIENCE)
            return "" if answer else f"no echo reply: {answer.kind}"

        yield Work(f"egress-icmp-v{family}", f"IPv{family} ping of the Internet", echo)


def _names() -> Iterator[Work]:
    for family in FAMILIES:
        for protocol in ("udp", "tcp"):

            def ask(place: Workplace, family: int = family, udp: bool = protocol == "udp") -> str:
                client, resolver = place.stage.world.attacker.host, _RESOLVER[family]
                query = question("www.test") if udp else framed(question("www.test"))
                answer = connect(client, resolver, 53, udp=udp, payload=query, timeout=_PATIENCE)
                found = socket.inet_aton(at.NAMED4) in answer.data
                return "" if found else f"no address in the answer: {answer.kind}"

            yield Work(f"names-{protocol}-v{family}", f"names over {protocol.upper()}, IPv{family}", ask)


def _exposed() -> Iterator[Work]:
    for client in ("lan", "internet", "node"):
        for protocol in ("tcp", "udp"):
            for family in FAMILIES:

                def ask(place: Workplace, client: str = client, protocol: str = protocol, family: int = family) -> str:
                    host: Host = getattr(place.stage.lab, client)
                    name = f"exposed {client} {protocol} {family}"
                    return _served(host, at.NODE[family], PUBLISHED, place.victim, udp=protocol == "udp", name=name)

                title = f"a published {protocol.upper()} port from the {client}, IPv{family}"
                yield Work(f"exposed-{client}-{protocol}-v{family}", title, ask, published=True)


def _transfers() -> Iterator[Work]:
    for family in FAMILIES:
        for name, address, size in (("large", _PUBLIC, 8 * _MEGABYTE), ("narrow", _NARROW, _MEGABYTE)):

            def move(place: Workplace, target: str = address[family], size: int = size) -> str:
                back = echoed_bytes(place.stage.world.attacker.host, target, _ECHO, size)
                return "" if back >= size else f"{back} of {size} bytes came back"

            path = f" over a path of {_NARROW_MTU} bytes" if name == "narrow" else ""
            title = f"{size // _MEGABYTE} MiB there and back{path}, IPv{family}"
            yield Work(f"transfer-{name}-v{family}", title, move)


def _path_mtu() -> Iterator[Work]:
    for family in FAMILIES:

        def learn(place: Workplace, family: int = family) -> str:
            # IP_MTU_DISCOVER and IP_MTU (linux/in.h), IPV6_MTU_DISCOVER and IPV6_MTU (linux/in6.h); 2: always.
            discover, mtu, level = (10, 14, socket.IPPROTO_IP) if family == 4 else (23, 24, socket.IPPROTO_IPV6)
            kind = socket.AF_INET if family == 4 else socket.AF_INET6
            with place.stage.world.attacker.host.socket(kind, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(level, discover, 2)
                sock.settimeout(_PATIENCE)
                sock.connect((_NARROW[family], _ECHO))
                with suppress(OSError):
                    sock.send(bytes(_MTU - 100))
                    sock.recv(10)
                told = sock.getsockopt(level, mtu)
            return "" if told == _NARROW_MTU else f"the path's MTU is taken to be {told}"

        yield Work(f"pmtu-v{family}", f"a path MTU error reaches the sandbox, IPv{family}", learn)


def _at_once() -> Iterator[Work]:
    for family in FAMILIES:

        def early(place: Workplace, family: int = family) -> str:
            host = place.stage.lab.sandbox(f"early{family}")
            place.stage.attach(host)
            # A datagram that nobody repeats: TCP would sit out the second that duplicate address detection takes.
            return _served(host, _PUBLIC[family], _ECHO, place.internet, udp=True, name=f"early {family}")

        yield Work(f"at-once-v{family}", f"IPv{family} from the moment of the attach", early)


WORK: tuple[Work, ...] = (*_egress(), *_names(), *_exposed(), *_path_mtu(), *_transfers(), *_at_once())
