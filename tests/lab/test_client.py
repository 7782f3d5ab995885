"""The four kinds of answer, each made by the kernel itself."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cellwall.errors import LabError
from cellwall.lab import Lab, connect, ping
from cellwall.lab import addresses as at

pytestmark = pytest.mark.root

BOTH = pytest.mark.parametrize("address", [at.LAN4, at.LAN6])
TRANSPORTS = pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])


@contextmanager
def walled(lab: Lab, statement: str) -> Iterator[None]:
    """The LAN neighbour does `statement` with everything that arrives, except neighbour discovery."""
    lab.lan.run(
        ["nft", "-f", "-"],
        input=f"""table inet wall {{ chain input {{ type filter hook input priority 0;
            icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept; {statement}
            }}
        }}
        """.encode(),
    )
    try:
        yield
    finally:
        lab.lan.run(["nft", "delete", "table", "inet", "wall"])


@BOTH
@TRANSPORTS
def test_closed_port_is_refused(lab: Lab, address: str, udp: bool) -> None:
    assert connect(lab.node, address, 9, udp=udp).kind == "refused"


@BOTH
@TRANSPORTS
def test_silence_is_a_timeout(lab: Lab, address: str, udp: bool) -> None:
    with walled(lab, "drop"):
        answer = connect(lab.node, address, 9, udp=udp, timeout=0.1)
        assert answer.kind == "timeout"
        assert answer.seconds >= 0.09
        assert ping(lab.node, address, timeout=0.1).kind == "timeout"


@BOTH
@TRANSPORTS
@pytest.mark.parametrize("code", ["admin-prohibited", "no-route", "host-unreachable"])
def test_icmp_error_is_unreachable_and_no_timeout(lab: Lab, address: str, udp: bool, code: str) -> None:
    with walled(lab, f"reject with icmpx {code}"):
        assert connect(lab.node, address, 9, udp=udp, timeout=5.0).kind == "unreachable"
        assert ping(lab.node, address, timeout=5.0).kind == "unreachable"


@BOTH
def test_tcp_reset_is_refused(lab: Lab, address: str) -> None:
    with walled(lab, "meta l4proto tcp reject with tcp reset"):
        assert connect(lab.node, address, 9).kind == "refused"


@pytest.mark.parametrize("address", ["9.9.9.9", "2620:fe::fe"])
@TRANSPORTS
def test_no_route_is_unreachable(lab: Lab, address: str, udp: bool) -> None:
    assert connect(lab.internet, address, 9, udp=udp).kind == "unreachable"
    assert ping(lab.internet, address).kind == "unreachable"


@BOTH
def test_ping_returns_its_own_data(lab: Lab, address: str) -> None:
    for size in (0, 56, 1400, 3000):
        answer = ping(lab.node, address, size=size)
        assert (answer.kind, len(answer.data)) == ("answer", size)


def test_listener_that_turns_a_client_away_is_refused(lab: Lab) -> None:
    with lab.lan.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("", 720))
        listener.listen()
        listener.settimeout(10)

        def turn_away() -> None:
            listener.accept()[0].close()

        doorman = threading.Thread(target=turn_away)
        doorman.start()
        assert connect(lab.node, at.LAN4, 720).kind == "refused"
        doorman.join()


def test_source_must_belong_to_the_host(lab: Lab) -> None:
    with pytest.raises(LabError, match="source"):
        connect(lab.node, at.LAN4, 9, source="10.9.8.7")


def test_address_must_be_numeric(lab: Lab) -> None:
    for bad in ("lan", "1.2.3", "fe80::1%nolink", ""):
        with pytest.raises(LabError, match="address"):
            connect(lab.node, bad, 9)
