"""Frames: what is injected is what is captured, once, in order, with its tags; a lossy capture never answers."""

import socket
import struct

import pytest

from cellwall.errors import LabError
from cellwall.lab import Host, Lab, ping
from cellwall.lab import addresses as at

pytestmark = pytest.mark.root

BROADCAST = b"\xff" * 6
EXPERIMENTAL = 0x88B5  # IEEE 802 local experimental ethertype


def frame(host: Host, payload: bytes, *, tags: bytes = b"", to: bytes = BROADCAST) -> bytes:
    source = bytes.fromhex(host.mac("eth0").replace(":", ""))
    return to + source + tags + struct.pack("!H", EXPERIMENTAL) + payload.ljust(46, b"\0")


def test_volley_arrives_once_and_in_order(lab: Lab) -> None:
    volley = [frame(lab.lan, b"<%d>" % number) for number in range(2000)]
    with lab.node.capture("eth0", outgoing=False) as capture:
        lab.lan.inject("eth0", volley[:1000])
        lab.lan.inject("eth0", volley[1000:])
        lab.lan.inject("eth0", [frame(lab.lan, b"<sentinel>")])
        seen = capture.read_until(b"<sentinel>")
    assert [raw for raw in seen if struct.pack("!H", EXPERIMENTAL) in raw[12:14]][:-1] == volley


@pytest.mark.parametrize(
    "tags",
    [
        b"\x81\x00\x00\x00",  # VID 0, priority tag
        b"\x81\x00\x00\x05",
        b"\x88\xa8\x20\x07",  # 802.1ad
        b"\x81\x00\x00\x00\x81\x00\x00\x00",
        b"\x88\xa8\x00\x02\x81\x00\x00\x03",
    ],
    ids=lambda tags: tags.hex(),
)
def test_tags_are_seen_as_they_were_sent(lab: Lab, tags: bytes) -> None:
    sent = frame(lab.lan, b"tagged", tags=tags)
    with lab.node.capture("eth0") as capture:
        lab.lan.inject("eth0", [sent])
        assert capture.read_until(b"tagged")[-1] == sent


def test_missing_sentinel_is_an_error(lab: Lab) -> None:
    with lab.node.capture("eth0") as capture, pytest.raises(LabError, match="no sentinel"):
        capture.read_until(b"never", timeout=0.05)


def test_lost_frames_are_an_error(lab: Lab) -> None:
    with lab.node.capture("eth0") as capture:
        capture._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lab.lan.inject("eth0", [frame(lab.lan, b"many")] * 100)
        with pytest.raises(LabError, match="were lost"):
            capture.drain()


def test_what_was_lost_before_all_is_forgotten_matters_to_nobody(lab: Lab) -> None:
    with lab.node.capture("eth0") as capture:
        capture._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lab.lan.inject("eth0", [frame(lab.lan, b"many")] * 100)
        capture.discard()
        lab.lan.inject("eth0", [frame(lab.lan, b"one")])
        assert [b"one" in raw for raw in capture.read_until(b"one")] == [True]


def test_drain_empties_the_capture(lab: Lab) -> None:
    with lab.lan.capture("eth0") as capture:
        lab.lan.inject("eth0", [frame(lab.lan, b"own")] * 3)
        assert sum(b"own" in raw for raw in capture.drain()) == 3
        assert capture.drain() == []


def test_outgoing_frames_can_be_left_out(lab: Lab) -> None:
    with lab.lan.capture("eth0", outgoing=False) as received, lab.node.capture("eth0") as capture:
        lab.lan.inject("eth0", [frame(lab.lan, b"mine")])
        capture.read_until(b"mine")
        assert not [raw for raw in received.drain() if b"mine" in raw]


def test_foreign_unicast_is_seen_by_a_promiscuous_capture(lab: Lab) -> None:
    """A switch floods what it does not know: the frame is on the node's wire, but not for the node."""
    stranger = bytes.fromhex("025d000000fe")
    with lab.node.capture("eth0") as capture:
        lab.lan.inject("eth0", [frame(lab.lan, b"stray", to=stranger)])
        assert capture.read_until(b"stray")[-1][:6] == stranger


def test_capture_on_every_link_sees_them_all(lab: Lab) -> None:
    with lab.node.capture() as capture:
        assert ping(lab.node, at.INFRA4)
        assert ping(lab.node, at.OTHER6)
        lab.lan.inject("eth0", [frame(lab.lan, b"<end>")])
        seen = capture.read_until(b"<end>")
    macs = {raw[6:12].hex(":") for raw in seen}
    assert {lab.infra.mac("eth0"), lab.other.mac("eth0"), lab.lan.mac("eth0")} <= macs


def test_links_that_do_not_exist_are_an_error(lab: Lab) -> None:
    with pytest.raises(LabError, match="nolink"):
        lab.node.capture("nolink")
    with pytest.raises(LabError, match="nolink"):
        lab.node.inject("nolink", [b"\0" * 60])


def test_frame_larger_than_the_link_is_an_error(lab: Lab) -> None:
    with pytest.raises(LabError, match="inject on eth0"):
        lab.lan.inject("eth0", [frame(lab.lan, b"x" * 3000)])
