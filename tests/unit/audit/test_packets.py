"""What is said of a packet, from its first bytes: right where they are whole, and never an error where they are not."""

from ipaddress import ip_address
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.audit.packets import ARP, IPV4, IPV6, Packet, decode
from unit.audit.octets import A4, A6, B4, B6, ipv4, ipv6

SYN = pack("!HHIIBBHHH", 40000, 443, 1, 0, 0x50, 0x02, 64240, 0, 0)


def test_a_segment_that_asks_for_a_connection_is_told_from_one_that_goes_on() -> None:
    assert decode(IPV4, ipv4(6, SYN)) == Packet(4, "tcp", A4, B4, (40000, 443), syn=True)
    answer = SYN[:13] + b"\x12" + SYN[14:]
    assert decode(IPV6, ipv6(6, answer)) == Packet(6, "tcp", A6, B6, (40000, 443))


def test_a_datagram_has_ports_behind_options_of_either_family() -> None:
    datagram = pack("!HHHH", 5353, 53, 8, 0)
    assert decode(IPV4, ipv4(17, datagram, options=b"\x01" * 8)).ports == (5353, 53)
    padding, routing = b"\x2b\x00" + bytes(6), b"\x11\x00\x04\x00" + bytes(4)
    assert decode(IPV6, ipv6(0, padding + routing + datagram)) == Packet(6, "udp", A6, B6, (5353, 53))


def test_an_icmp_message_has_a_type_and_a_code() -> None:
    assert decode(IPV4, ipv4(1, b"\x03\x0d\x00\x00")).icmp == (3, 13)
    assert decode(IPV6, ipv6(58, b"\x86\x00\x00\x00")) == Packet(6, "icmpv6", A6, B6, icmp=(134, 0))
    assert decode(IPV4, ipv4(58, b"\x86\x00")).icmp is None


def test_bytes_of_a_later_fragment_are_not_taken_for_ports() -> None:
    assert decode(IPV4, ipv4(17, SYN, where=0x2001)) == Packet(4, "udp", A4, B4, fragment=True)
    assert decode(IPV4, ipv4(17, SYN, where=0x2000)) == Packet(4, "udp", A4, B4, (40000, 443), fragment=True)
    later, first = b"\x11\x00\x00\x09" + bytes(4), b"\x11\x00\x00\x01" + bytes(4)
    assert decode(IPV6, ipv6(44, later + SYN)) == Packet(6, "udp", A6, B6, fragment=True)
    assert decode(IPV6, ipv6(44, first + SYN)).ports == (40000, 443)


def test_arp_says_who_claims_to_be_who() -> None:
    request = b"\x00\x01\x08\x00\x06\x04\x00\x01" + b"\x0a" * 6 + ip_address(A4).packed + bytes(6)
    assert decode(ARP, request + ip_address(B4).packed) == Packet(0, "arp", A4, B4)
    assert decode(ARP, b"\x00\x06" + request[2:] + bytes(4)) == Packet(0, "arp")


@pytest.mark.parametrize(("ethertype", "said"), [(0x88CC, "0x88cc"), (0x8100, "0x8100"), (0, "0x0000")])
def test_what_is_no_ip_is_named_by_its_ethertype(ethertype: int, said: str) -> None:
    assert decode(ethertype, b"whatever") == Packet(protocol=said)


NAMES = {
    1: "icmp",
    2: "igmp",
    4: "ipip",
    6: "tcp",
    17: "udp",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmpv6",
    132: "sctp",
}


def test_a_protocol_without_a_name_is_its_number() -> None:
    """Ethertypes and protocols are IANA's numbers."""
    for number in range(256):
        assert decode(0x0800, ipv4(number, b"")).protocol == NAMES.get(number, str(number))
    assert decode(0x86DD, ipv6(253, b"")) == Packet(6, "253", A6, B6)
    assert decode(0x0806, b"").protocol == "arp"


def test_protocols_that_have_ports_and_no_others_have_them() -> None:
    """TCP, UDP, DCCP, SCTP and UDP-Lite; also where nothing else is there any more."""
    ports = pack("!HH", 40000, 443)
    for version, ethertype, packet in ((4, 0x0800, ipv4), (6, 0x86DD, ipv6)):
        extensions = {0, 43, 44, 51, 60, 135, 139, 140} if version == 6 else set()
        with_ports = {number for number in range(256) if number not in extensions and decode(
            ethertype, packet(number, ports)).ports == (40000, 443)}  # fmt: skip
        assert with_ports == {6, 17, 33, 132, 136}
        assert decode(ethertype, packet(17, ports[:3])).ports is None
        echo = 1 if version == 4 else 58
        assert decode(ethertype, packet(echo, b"\x08\x01")).icmp == (8, 1)
        assert decode(ethertype, packet(echo, b"\x08")).icmp is None


@pytest.mark.parametrize("number", [0, 43, 51, 60, 135, 139, 140])
def test_extension_headers_are_stepped_over_by_their_length(number: int) -> None:
    """An authentication header counts in units of four octets, less two; all others of eight, less one."""
    ports, length = pack("!HH", 40000, 443), 3
    header = bytes([17, length]) + bytes(4 * (length + 2) - 2 if number == 51 else 8 * (length + 1) - 2)
    assert decode(0x86DD, ipv6(number, header + ports)) == Packet(6, "udp", A6, B6, (40000, 443))
    assert decode(0x86DD, ipv6(number, header[:1])) == Packet(6, NAMES.get(number, str(number)), A6, B6)


def test_behind_no_next_header_is_nothing() -> None:
    assert decode(0x86DD, ipv6(59, SYN)) == Packet(6, "59", A6, B6)
    assert decode(0x86DD, ipv6(6, b"")) == Packet(6, "tcp", A6, B6)


def test_a_chain_of_headers_without_an_end_is_followed_for_a_while() -> None:
    endless = (b"\x00\x00" + bytes(6)) * 100
    assert decode(IPV6, ipv6(0, endless)).protocol == "0"


_whole = st.sampled_from(
    [ipv4(6, SYN), ipv4(17, SYN, options=b"\x01" * 8), ipv6(6, SYN), ipv6(0, bytes(8) * 3), ipv6(44, bytes(8) + SYN)]
)


@given(st.integers(0, 0xFFFF) | st.sampled_from([IPV4, IPV6, ARP]), st.binary(max_size=200))
def test_any_bytes_give_a_packet_of_bounded_size(ethertype: int, octets: bytes) -> None:
    said = decode(ethertype, octets)
    assert max(map(len, (said.protocol, said.source, said.destination))) <= 39
    assert said.ports is None or all(0 <= port <= 65535 for port in said.ports)


@given(st.sampled_from([IPV4, IPV6]), _whole, st.data())
def test_a_packet_that_is_cut_off_or_changed_anywhere_gives_one_too(
    ethertype: int, octets: bytes, data: st.DataObject
) -> None:
    cut = bytearray(octets[: data.draw(st.integers(0, len(octets)))])
    for place in data.draw(st.lists(st.integers(0, max(len(cut) - 1, 0)), max_size=4)) if cut else ():
        cut[place] = data.draw(st.integers(0, 255))
    assert isinstance(decode(ethertype, bytes(cut)), Packet)
