"""The lab's name server, over packets and as a function of bytes."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.lab import Lab, connect
from cellwall.lab import addresses as at
from cellwall.lab.dns import answer, framed, question

A, AAAA, TXT = 1, 28, 16


def query(name: str, kind: int) -> bytes:
    return question(name, kind, ident=7)


def outcome(reply: bytes) -> tuple[int, list[bytes]]:
    """(response code, the data of each answer record) of a reply to a query of one question."""
    ident, flags, _, answers, _, _ = struct.unpack_from("!HHHHHH", reply)
    assert (ident, flags & 0x8000) == (7, 0x8000)
    at_byte = 12
    while reply[at_byte]:
        at_byte += 1 + reply[at_byte]
    at_byte += 5
    records = []
    for _ in range(answers):
        length = struct.unpack_from("!H", reply, at_byte + 10)[0]
        records.append(reply[at_byte + 12 : at_byte + 12 + length])
        at_byte += 12 + length
    assert at_byte == len(reply)
    return flags & 0xF, records


NAMES = [
    ("www.test", A, (0, [socket.inet_pton(socket.AF_INET, at.NAMED4)])),
    ("a.b.TEST", AAAA, (0, [socket.inet_pton(socket.AF_INET6, at.NAMED6)])),
    ("www.test", TXT, (0, [])),
    ("www.example", A, (3, [])),
    ("test.example", A, (3, [])),
]


@pytest.mark.root
@pytest.mark.parametrize("resolver", [*at.RESOLVERS4, *at.RESOLVERS6])
@pytest.mark.parametrize(("name", "kind", "expected"), NAMES)
def test_resolvers_answer_over_udp_and_tcp(
    lab: Lab, resolver: str, name: str, kind: int, expected: tuple[int, list[bytes]]
) -> None:
    asked = query(name, kind)
    assert outcome(connect(lab.node, resolver, 53, udp=True, payload=asked).data) == expected
    told = connect(lab.node, resolver, 53, payload=framed(asked)).data
    assert struct.unpack_from("!H", told)[0] == len(told) - 2
    assert outcome(told[2:]) == expected


@pytest.mark.root
def test_port_53_of_other_addresses_can_be_served_beside(lab: Lab) -> None:
    with lab.internet.serve(udp=[53], tcp=[53]) as services:
        for udp in (False, True):
            assert connect(lab.node, "10.0.0.5", 53, udp=udp).data == b"internet hello"
            asked = query("www.test", A)
            assert connect(lab.node, "8.8.8.8", 53, udp=udp, payload=asked if udp else framed(asked))
        assert not services.saw(b"test")


def test_responses_are_not_answered() -> None:
    reply = answer(query("www.test", A))
    assert reply is not None
    assert answer(reply) is None


@given(st.binary(max_size=80))
def test_any_bytes_get_a_well_formed_answer_or_none(data: bytes) -> None:
    reply = answer(data)
    if reply is not None:
        assert reply[:2] == data[:2]
        assert reply[2] & 0x80


@given(st.binary(max_size=60))
def test_any_question_is_survived(asked: bytes) -> None:
    reply = answer(struct.pack("!HHHHHH", 7, 0, 1, 0, 0, 0) + asked)
    assert reply is not None
