"""Packets as they are read: where one ends, and what makes a new one of it."""

import pytest

from cellwall.errors import Unsupported
from cellwall.ruleset.context import Context
from cellwall.ruleset.evaluate import Evaluator
from cellwall.ruleset.packet import forwarded, has_extension, parse_frame, parse_ip
from cellwall.ruleset.types import Ruleset


def test_padding_behind_a_packet_is_not_part_of_it() -> None:
    four = b"\x45\0\0\x1c" + bytes(5) + b"\x11" + bytes(18)
    six = b"\x60\0\0\0\0\x08\x11\x40" + bytes(32) + bytes(8)
    for packet, kind in ((four, 0x0800), (six, 0x86DD)):
        bare = parse_ip(packet + b"padding")
        assert (bare.protocol, bare.network) == (kind, packet)
        frame = bytes(12) + kind.to_bytes(2) + packet + b"padding"
        assert parse_frame(frame, trimmed=True).network == packet


def test_only_ipv6_has_extension_headers() -> None:
    four = parse_ip(b"\x45\0\0\x14" + bytes(5) + b"\x11" + bytes(10))
    six = parse_ip(b"\x60\0\0\0\0\x08\0\x40" + bytes(32) + b"\x11" + bytes(7))
    assert [has_extension(packet, 0) for packet in (four, six)] == [None, True]
    assert has_extension(six, 43) is False


@pytest.mark.parametrize("hops", [64, 2])
def test_a_forwarded_packet_has_a_hop_less_and_is_otherwise_the_same(hops: int) -> None:
    for head, at in ((b"\x45\0\0\x14" + bytes(16), 8), (b"\x60" + bytes(39), 7)):
        packet = parse_ip(head[:at] + bytes((hops,)) + head[at + 1 :])
        left = forwarded(packet).network
        assert left[at] == hops - 1
        assert left[:at] + left[at + 1 :] == packet.network[:at] + packet.network[at + 1 :]


def test_an_evaluation_at_no_hook_is_refused() -> None:
    with pytest.raises(Unsupported, match="no hook"):
        Evaluator(Ruleset(())).walk(parse_ip(bytes(20)), ())
    assert Evaluator(Ruleset(())).evaluate(parse_ip(bytes(20)), Context("inet", "forward")).verdict == "accept"
