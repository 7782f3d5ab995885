"""B04, B05: what connection tracking expects for somebody, and what it calls invalid."""

import socket
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

from cellwall.attack.frames import ip, packet, scapy
from cellwall.attack.probe import Probe, layers
from cellwall.attack.rows.routed import FAR, PUBLIC, by_gateway, from_outside, volley
from cellwall.attack.rows.shapes import FAMILIES, episode
from cellwall.attack.world import World

# ---------------------------------------------------------------- B04: a helper's expectation

_HELPED = b"""
table inet bystander {
	ct helper ftp { type "ftp" protocol tcp; }
	chain helped { type filter hook prerouting priority -140; tcp dport 21 ct helper set "ftp"; }
}
"""
"""What another program of the node may have set up for its own sake: FTP's helper for whoever speaks to port 21."""
_OFFERED = 9876


def _expectation() -> Iterator[Probe]:
    for family in FAMILIES:
        yield episode(
            f"B04-expectation-v{family}",
            f"a helper's expectation opens an inbound port that nobody published, IPv{family}",
            layers("FWD"),
            partial(_expected, family=family),
            family=family,
        )


def _expected(w: World, token: bytes, *, family: int) -> bool:
    w.node.run(["nft", "-f", "-"], input=_HELPED)
    try:
        return _active_ftp(w, token, family)
    finally:
        w.node.run(["nft", "delete", "table", "inet", "bystander"])
        w.node.run(["conntrack", "-D", "-f", f"ipv{family}", "-s", w.attacker.ip(family)], check=False)


def _active_ftp(w: World, token: bytes, family: int) -> bool:
    """The attacker offers a port in the words of FTP, and the server connects to the port that arrived."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with (
        w.lab.internet.socket(kind, socket.SOCK_STREAM) as server,
        w.attacker.host.socket(kind, socket.SOCK_STREAM) as client,
    ):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((PUBLIC[family], 21))
        server.listen()
        for sock in (server, client):
            sock.settimeout(2)
        client.connect((PUBLIC[family], 21))
        with server.accept()[0] as control:
            control.settimeout(2)
            client.sendall(b"USER anonymous\r\n")  # the helper reads a line only behind one that it saw the end of
            control.recv(200)
            client.sendall(_offer(w.attacker.ip(family), family))
            port = _offered(control.recv(200), family)

        def connection(w: World, token: bytes) -> Any:
            return packet(PUBLIC[family], w.uplink(family), "tcp", token, sport=20, dport=port)

        return w.fire(from_outside("internet", connection)(w, token)).saw(token, "attacker")


def _offer(address: str, family: int) -> bytes:
    """PORT (RFC 959) and EPRT (RFC 2428)."""
    if family == 6:
        return b"EPRT |2|%s|%d|\r\n" % (address.encode(), _OFFERED)
    return b"PORT %s,%d,%d\r\n" % (address.replace(".", ",").encode(), _OFFERED >> 8, _OFFERED & 0xFF)


def _offered(text: bytes, family: int) -> int:
    if family == 6:
        return int(text.split(b"|")[3])
    high, low = text.strip().split(b",")[-2:]
    return int(high) << 8 | int(low)


# ---------------------------------------------------------------- B05: invalid packets


def _tcp(flags: str, **fields: int) -> Callable[[bytes, int], Any]:
    def transport(token: bytes, family: int) -> Any:
        s = scapy()
        return s.TCP(sport=40005, dport=9060, flags=flags, seq=1000, **fields) / s.Raw(token)

    return transport


def _udp(**fields: int) -> Callable[[bytes, int], Any]:
    def transport(token: bytes, family: int) -> Any:
        return scapy().UDP(sport=40005, dport=9060, **fields) / scapy().Raw(token)

    return transport


def _icmp(four: int, six: int, *, checksum: int | None = None) -> Callable[[bytes, int], Any]:
    def transport(token: bytes, family: int) -> Any:
        s = scapy()
        if family == 4:
            return s.ICMP(type=four, id=77, chksum=checksum) / s.Raw(bytes(32) + token)
        if six == 129:
            return s.ICMPv6EchoReply(data=token, cksum=checksum)
        return s.ICMPv6Unknown(type=six, msgbody=bytes(52) + token, cksum=checksum)

    return transport


_INVALID: dict[str, Callable[[bytes, int], Any]] = {
    "null": _tcp(""),
    "xmas": _tcp("FPU"),
    "syn-fin": _tcp("SF"),
    "syn-reset": _tcp("SR"),
    "fin": _tcp("F"),
    "reset": _tcp("R"),
    "reset-ack": _tcp("RA"),
    "answer-to-nothing": _tcp("SA"),
    "short-header": _tcp("A", dataofs=3),
    "long-header": _tcp("A", dataofs=15),
    "tcp-checksum": _tcp("S", chksum=0x1234),
    "udp-checksum": _udp(chksum=0x1234),
    "udp-length": _udp(len=4),
    "udp-too-long": _udp(len=9000),
    "echo-reply": _icmp(0, 129),
    "icmp-checksum": _icmp(8, 129, checksum=0x1234),
    "error-about-nothing": _icmp(3, 1),
    "quench-about-nothing": _icmp(4, 2),
    "expired-about-nothing": _icmp(11, 3),
}


def _invalid() -> Iterator[Probe]:
    for family, (name, transport) in product(FAMILIES, _INVALID.items()):
        yield volley(
            f"B05-{name}-v{family}",
            f"an invalid IPv{family} packet leaves with the container's address: {name}",
            layers("PRE", "FWD"),
            by_gateway(partial(_carried, family=family, transport=transport)),
            "internet",
            family=family,
            gentle=True,
        )


def _carried(w: World, token: bytes, *, family: int, transport: Callable[[bytes, int], Any]) -> object:
    layer = transport(token, family)
    number = {"TCP": 6, "UDP": 17}.get(type(layer).__name__, 1 if family == 4 else 58)
    return ip(w.attacker.ip(family), FAR[family], proto=number) / layer


PROBES: tuple[Probe, ...] = (*_expectation(), *_invalid())
