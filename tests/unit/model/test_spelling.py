"""How addresses, networks and ports are written: what is read differently by different programs is refused, wherever it
is written, and what is accepted is the usual text, or one of the few other ones that `docs/configuration.md` names."""

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellwall.config.keys import BY_NAME
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import parse_address, parse_prefix
from cellwall.model.endpoint import parse_binding, parse_port
from cellwall.model.policy_document import parse_policy
from cellwall.model.scraped import parse_scraped
from cellwall.model.settings import parse_openings
from cellwall.wire.bodies import BindingBody, binding_of
from cellwall.wire.pointers import Refused

SIX = re.compile(r"[0-9A-Fa-f:]+(:[0-9.]+)?(/(0|[1-9][0-9]{0,2}))?")
"""RFC 4291 2.2: upper case, zeros that could be left out, the last 32 bits as IPv4."""

NETWORKS = (
    "1.1.1.1/032", "1.1.1.0/024", "0.0.0.0/00", "1.1.1.1/ 32", "1.1.1.1 /32", " 1.1.1.1/32", "1.1.1.1/32\n",
    "1.1.1.1/٣٢", "1.1.1.٣", "1.1.1.1/+32", "1.1.1.1/3_2", "1.1.1.1/", "01.1.1.1/32", "1.1.1.010", "1.1.257/32",
    "0x1.1.1.1/32", "16843009", "1.1.1.0/255.255.255.0", "1.1.1.0/0.0.0.255", "0.0.0.0/0.0.0.0", "::/00",
    "2001:db8::/032", "2001:db8::/ 32", "fe80::%eth0/64", "fe80::1%1", "::ffff:1.2.3.4", "::ffff:1.2.3.0/120",
    "::ffff:102:300/120", "::FFFF:0:0/96", "2001:db8:00000::/32",
)  # fmt: skip
ADDRESSES = tuple(text for text in NETWORKS if "/" not in text)
PORTS = ("080", "0080", "00", " 80", "80 ", "+80", "8_0", "٣", "²", "0x50", "8e1", "80.0", "")


def refused(parse: Callable[[], Any], value: str) -> None:
    """With the field and the value, or what holds the value."""
    with pytest.raises((InvalidSpec, Refused)) as caught:
        parse()
    assert caught.value.field and value.strip() in str(caught.value.value)


@pytest.mark.parametrize("text", NETWORKS)
def test_a_network_that_programs_read_differently_is_refused_wherever_it_is_written(text: str) -> None:
    rule = {"action": "deny", "prefix": text}
    refused(lambda: parse_prefix(text, "net"), text)
    refused(lambda: parse_policy({"rules": [rule]}), text)
    refused(lambda: parse_policy({"allow_list": [text]}), text)
    refused(lambda: parse_policy({"sources": [text]}), text)
    refused(lambda: parse_binding(f"8080:80@{text}"), text)
    refused(lambda: binding_of(BindingBody(8080, 80, sources=(text,)), ""), text)
    refused(lambda: BY_NAME["node.protect"].typed([text]), text)


@pytest.mark.parametrize("text", ADDRESSES)
def test_so_is_an_address(text: str) -> None:
    refused(lambda: parse_address(text, "ip"), text)
    refused(lambda: binding_of(BindingBody(8080, 80, bind=text), ""), text)
    refused(lambda: parse_binding(f"[{text}]:8080:80"), text)
    refused(lambda: BY_NAME["network.dns"].typed([text]), text)
    refused(lambda: BY_NAME["node.public_addresses"].typed([text]), text)
    refused(
        lambda: parse_scraped(f"open [{text}]:9469" if ":" in text else f"open {text}:9469", "daemon.metrics"), text
    )
    if text.split() == [text]:
        refused(lambda: parse_openings(f"name {text} udp/53", "network.exceptions"), text)


@pytest.mark.parametrize("text", PORTS)
def test_so_is_a_port(text: str) -> None:
    refused(lambda: parse_port(text, "port"), text)
    for spec in (f"{text}:80", f"8080:{text}", f"8000-{text}:80"):
        refused(lambda spec=spec: parse_binding(spec), text)
    for ports in (text, f"8000-{text}"):
        refused(
            lambda ports=ports: parse_policy(
                {"rules": [{"action": "deny", "prefix": "1.1.1.1", "protocol": "tcp", "ports": ports}]}
            ),
            text,
        )
    if text == text.strip():  # space around a value of the configuration is none of it
        refused(lambda: parse_scraped(f"127.0.0.1:{text}", "daemon.metrics"), text)
        refused(lambda: parse_openings(f"name 10.0.0.2 udp/{text}", "network.exceptions"), text)
        refused(lambda: BY_NAME["node.nat_ports"].typed(f"10240-{text}"), text)
        refused(lambda: BY_NAME["node.kept_ports"].typed([text]), text)


@pytest.mark.parametrize("text", ["٣", "1٣", "²", "1\u2003", "１２"])
def test_a_number_of_a_flag_or_a_variable_is_written_in_plain_digits(text: str) -> None:
    refused(lambda: BY_NAME["limits.connections"].read(text), text)


NOISE = st.text("0123456789.:/abcdefx%_+- \n٣", max_size=3)


@st.composite
def misspelt(draw: st.DrawFn, text: str) -> str:
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(NOISE) + text[at + draw(st.integers(0, 2)) :]


FOUR = st.ip_addresses(v=4).map(str)
LONG = st.ip_addresses(v=6).map(str)
NETWORK = st.tuples(FOUR | LONG, st.integers(0, 128)).map(
    lambda it: str(ip_network((it[0], min(it[1], ip_address(it[0]).max_prefixlen)), strict=False))
)


@given((NETWORK | FOUR | LONG).flatmap(misspelt))
@example("1.1.1.1/032")
@example("2001:DB8::1.2.3.4")
def test_a_network_that_is_accepted_is_the_usual_text(text: str) -> None:
    try:
        read = parse_prefix(text, "net")
    except InvalidSpec:
        return
    if read.version == 4:
        assert text in (str(read), str(read).removesuffix("/32"))
    else:
        assert SIX.fullmatch(text) and read.network_address.ipv4_mapped is None  # type: ignore[union-attr]
        assert text.partition("/")[2] == (str(read.prefixlen) if "/" in text else "")


@given((FOUR | LONG).flatmap(misspelt))
def test_an_address_that_is_accepted_is_the_usual_text(text: str) -> None:
    try:
        read = parse_address(text, "ip")
    except InvalidSpec:
        return
    assert text == str(read) if read.version == 4 else SIX.fullmatch(text) and "/" not in text


PORT = st.integers(1, 65535).map(str)
SPEC = st.tuples(PORT, PORT, st.sampled_from(["", "/tcp", "/udp", "/tcp6to4"]), st.none() | FOUR, st.none() | FOUR).map(
    lambda it: f"{it[3] + ':' if it[3] else ''}{it[0]}:{it[1]}{it[2]}{'@' + it[4] if it[4] else ''}"
)


@given(SPEC.flatmap(misspelt))
@example("8080-8080:80")
def test_a_binding_that_is_accepted_is_the_usual_text(text: str) -> None:
    try:
        read = parse_binding(text)
    except InvalidSpec:
        return
    ports, *sources = str(read).split(" from ")
    usual = {ports, ports.removesuffix("/tcp")}
    if read.last == read.host_port:  # a range of one
        usual |= {one.replace(f"{read.host_port}:", f"{read.host_port}-{read.host_port}:", 1) for one in usual}
    written, at, clients = text.partition("@")
    assert written in usual or written.startswith("[")
    if at and all(source.version == 4 for source in read.sources):
        assert [one.removesuffix("/32") for one in clients.split(",")] == [one.removesuffix("/32") for one in sources]
