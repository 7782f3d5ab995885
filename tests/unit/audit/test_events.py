"""From a logged packet to an event: whose it was by the port, else by a vouched address, else nobody's."""

from struct import pack

import msgspec
import pytest

from cellwall.adapters.events.nflog import Logged
from cellwall.audit.events import Attempt, Began, Event, Unrecorded, event_of, line_of
from cellwall.audit.holders import Holders, Moment
from cellwall.audit.packets import ARP, IPV4
from cellwall.audit.tally import Tally
from cellwall.audit.telling import attempt_of, time_text
from scene import LINKS, PUBLIC4, WEB, endpoint
from unit.audit.octets import ipv4

BRIDGE, UPLINK = LINKS["b9_br0"], LINKS["eth0"]
AT = 1_700_000_000.25
OTHER = endpoint("other", 3)
SYN = pack("!HHIIBBHHH", 40000, 443, 1, 0, 0x50, 0x02, 64240, 0, 0)

FROM_WEB = bytes(6) + WEB.mac.to_bytes(6) + b"\x08\x00"


def logged(prefix: str, **fields: object) -> Logged:
    given = {"family": 2, "hook": 2, "protocol": IPV4, "indev": 0, "outdev": 0, "physindev": 0, "physoutdev": 0}
    given |= {"mark": 0, "time": AT, "sequence": 0, "hardware": b"", "payload": b"", **fields}
    return Logged(prefix, **given)  # type: ignore[arg-type]


def told(packet: Logged) -> Attempt:
    holders = Holders()
    holders.fill(Moment(AT - 1, 1), [WEB, OTHER])
    attempt = attempt_of(packet, holders, AT)
    assert attempt is not None
    return attempt


def test_a_frame_is_its_port_s_whatever_it_claims() -> None:
    frame = b"\x0a\x58\xc0\xa8\x00\x01" + b"\x0a\x58\xc0\xa8\x00\x03" + b"\x08\x00"
    payload = ipv4(17, pack("!HHHH", 1, 53, 8, 0), source=str(OTHER.address4), destination=PUBLIC4)
    said = told(
        logged(
            "PIN deny out: spoofed IPv4 source or options",
            family=7,
            indev=BRIDGE,
            physindev=WEB.host_index,
            hardware=frame,
            payload=payload,
        )
    )
    assert said == Attempt(
        time="2023-11-14T22:13:20.250000Z",
        judgement="deny",
        direction="out",
        layer="PIN",
        reason="spoofed IPv4 source or options",
        tenant="web",
        container="web",
        interface="eth0",
        generation=WEB.generation,
        protocol="udp",
        source=str(OTHER.address4),
        source_port=1,
        destination=PUBLIC4,
        destination_port=53,
        mac="0a:58:c0:a8:00:03",
    )


def test_a_routed_packet_is_the_holder_s_of_its_address() -> None:
    payload = ipv4(6, SYN, source=str(WEB.address4), destination="10.0.0.1")
    said = told(logged("FWD deny out: the floor", indev=BRIDGE, outdev=UPLINK, payload=payload))
    assert (said.container, said.source_port, said.destination, said.destination_port) == (
        "web",
        40000,
        "10.0.0.1",
        443,
    )


def test_of_what_is_no_frame_no_mac_is_told() -> None:
    payload = ipv4(6, SYN, source=str(WEB.address4), destination="10.0.0.1")
    assert told(logged("FWD deny out: the floor", indev=BRIDGE, hardware=FROM_WEB, payload=payload)).mac == ""


def test_where_packets_are_pinned_and_no_port_is_known_they_are_of_whose_mac_it_is() -> None:
    """Which the port's lock has vouched for: of a port that is nobody's, and of a frame, it has not."""
    payload = ipv4(17, pack("!HHHH", 1, 53, 8, 0), source=str(OTHER.address4), destination=PUBLIC4)
    pinned = logged("PIN deny out: spoofed", indev=BRIDGE, hardware=FROM_WEB, payload=payload)
    said = told(pinned)
    assert (said.container, said.mac, said.source) == ("web", "0a:58:c0:a8:00:02", str(OTHER.address4))
    for unknown in ({"physindev": 77}, {"family": 7}):
        said = told(msgspec.structs.replace(pinned, **unknown))
        assert (said.container, said.generation, said.mac) == ("", 0, "0a:58:c0:a8:00:02")


def test_a_packet_with_a_policy_version_is_of_whose_that_is_and_of_that_policy() -> None:
    payload = ipv4(6, SYN, source=str(OTHER.address4), destination="10.0.0.1")
    said = told(logged("FWD deny out: the floor", indev=BRIDGE, mark=WEB.generation + 3, payload=payload))
    assert (said.container, said.generation) == ("web", WEB.generation + 3)
    assert told(logged("FWD deny out: the floor", indev=BRIDGE, mark=0x1000, payload=payload)).container == "other"


def test_what_comes_to_a_sandbox_is_its_own_by_where_it_goes() -> None:
    payload = ipv4(6, SYN, source=PUBLIC4, destination=str(WEB.address4))
    said = told(logged("FWD deny in: not exposed", indev=UPLINK, outdev=BRIDGE, payload=payload))
    assert (said.container, said.direction, said.source) == ("web", "in", PUBLIC4)


@pytest.mark.parametrize(
    "prefix", ["RAW deny out: not judged by the pins", "RAW deny in: a sandbox's address from outside"]
)
def test_an_address_that_nobody_vouched_for_names_no_container(prefix: str) -> None:
    payload = ipv4(6, SYN, source=str(WEB.address4), destination=PUBLIC4)
    assert told(logged(prefix, indev=UPLINK, payload=payload)).container == ""


def test_a_claim_by_arp_is_said_as_one() -> None:
    claim = b"\x00\x01\x08\x00\x06\x04\x00\x02" + bytes(6) + b"\xc0\xa8\x00\x01" + bytes(6) + b"\xc0\xa8\x00\x03"
    prefix = "PIN deny out: ARP other than a request for the gateway"
    said = told(logged(prefix, family=7, protocol=ARP, physindev=OTHER.host_index, payload=claim))
    assert (said.container, said.protocol, said.source) == ("other", "arp", "192.168.0.1")


def test_what_another_program_logs_is_no_event() -> None:
    assert attempt_of(logged("IN=eth0 OUT= "), Holders(), AT) is None
    assert attempt_of(logged(""), Holders(), AT) is None


def test_a_packet_without_a_time_has_that_of_its_reading() -> None:
    assert told(logged("OUT deny in: amid a connection", time=0.0)).time == time_text(AT)


@pytest.mark.parametrize("seconds", [0.0, 1.5, AT, 1_699_999_999.999999])
def test_texts_of_times_are_of_one_length_so_that_they_sort(seconds: float) -> None:
    assert len(time_text(seconds)) == 27


EVENTS: tuple[Event, ...] = (
    Attempt(
        "t", "watch", "in", "FWD", "no client by the policy of the tenant", tenant='"\n', icmp_type=0, fragment=True
    ),
    Unrecorded("t", 12, "rate", tenant="acme", container="web", interface="eth0"),
    Began("t", "0.1.0"),
)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_one_line_that_gives_it_back(event: Event) -> None:
    line = line_of(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert event_of(line) == event


@pytest.mark.parametrize("line", [b"", b"{", b'{"kind":"attempt","ti', b"[]", b'{"kind":"other"}', b"\xff\xfe"])
def test_a_torn_line_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        event_of(line)


def test_a_newer_program_s_field_is_read_over() -> None:
    more = msgspec.json.encode({"kind": "began", "time": "t", "program": "9", "novelty": [1]})
    assert event_of(more) == Began("t", "9")


def test_what_was_not_recorded_is_counted_by_cause_and_tenants_are_bounded() -> None:
    tally = Tally()
    for number in range(5000):
        tally.record(Attempt("t", "deny", "out", "FWD", "the floor", tenant=f"t{number}"))
        tally.miss(2, "rate", f"t{number}")
    tally.miss(3, "queue")
    tally.ignore(4)
    seen = tally.tallied()
    assert sum(seen.recorded.values()) == 5000
    assert len(seen.recorded) <= 4097
    assert (seen.lost("rate"), seen.lost("queue"), seen.lost("disk"), seen.foreign) == (10000, 3, 0, 4)
