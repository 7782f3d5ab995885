"""Port bindings as text and as values. What is half written is refused: left out must never mean open to anyone."""

from ipaddress import IPv6Address, ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.errors import InvalidSpec
from cellwall.model.endpoint import EndpointKey, PortBinding, parse_binding, parse_port, validate_binding

READ = {
    "8080:80": PortBinding("tcp", 8080, 80),
    "8080:80/tcp": PortBinding("tcp", 8080, 80),
    "8080:80/udp": PortBinding("udp", 8080, 80),
    "93.184.216.10:443:8443/tcp": PortBinding("tcp", 443, 8443, bind=ip_address("93.184.216.10")),
    "[2001:db8::1]:443:443": PortBinding("tcp", 443, 443, bind=IPv6Address("2001:db8::1")),
    "9000-9010:9000": PortBinding("tcp", 9000, 9000, host_port_last=9010),
    "8080:80/tcp6to4": PortBinding("tcp", 8080, 80, proxy=6),
    "8080:80/tcp4to6": PortBinding("tcp", 8080, 80, proxy=4),
    "[2001:db8::1]:80:80/tcp6to4": PortBinding("tcp", 80, 80, bind=IPv6Address("2001:db8::1"), proxy=6),
    "8080:80@203.0.113.0/24": PortBinding("tcp", 8080, 80, sources=(ip_network("203.0.113.0/24"),)),
    "[2a00::1]:1-2:3/udp@2a00::/16,2a01::5": PortBinding(
        "udp",
        1,
        3,
        host_port_last=2,
        bind=IPv6Address("2a00::1"),
        sources=(ip_network("2a00::/16"), ip_network("2a01::5/128")),
    ),
}


@pytest.mark.parametrize("text", READ)
def test_binding_is_read(text: str) -> None:
    assert parse_binding(text) == READ[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        ":80",
        "80:",
        "8080:80:",
        "a:b",
        "0:80",
        "80:0",
        "65536:80",
        "80:65536",
        "-1:80",
        "+80:80",
        "8 0:80",
        "８０:80",
        "8080:80/sctp",
        "8080:80/icmp",
        "8080:80/TCP",
        "8080:80/tcp/udp",
        "1.2.3.4.5:80:80",
        "2001:db8::1:443:443",
        "[2001:db8::1]443:443",
        "[2001:db8::1:443:443",
        "[2001:db8::1]:443",
        "[fe80::1%eth0]:443:443",
        "9010-9000:9000",
        "9000-9010-9020:9000",
        "65000-65535:65500",
        "8080:80@10.0.0.1/8",
        "8080:80@everyone",
        "127.0.0.1:80:80",
        "0.0.0.0:80:80",
        "[::1]:80:80",
        "[::]:80:80",
        "1.2.3.4:80:80@2a00::/16",
        "8080:80\n",
        "9" * 5000 + ":80",  # more digits than Python turns into a number
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_wrong_binding_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_binding(text)
    assert refused.value.field.startswith("expose")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "text", ["8080:80@", "8080:80@10.0.0.0/8,", "8080:80@,", ":8080:80", "[]:8080:80", "8080-:80", "8080:80/"]
)
def test_a_part_that_was_left_empty_is_refused_and_not_read_as_anyone(text: str) -> None:
    """An unset variable in `--expose "8080:80@$CLIENTS"` or `"$ADDRESS:8080:80"` must not publish to the world."""
    with pytest.raises(InvalidSpec):
        parse_binding(text)


def test_shifted_range_is_bounded() -> None:
    assert parse_binding("2000-3023:5000").last == 3023
    with pytest.raises(InvalidSpec, match="1024"):
        parse_binding("2000-3024:5000")
    assert parse_binding("2000-9999:2000").last == 9999  # not shifted: one interval, whatever its length


def test_a_range_of_one_port_is_that_port() -> None:
    assert parse_binding("9000-9000:80") == parse_binding("9000:80")


@pytest.mark.parametrize("protocol", ["icmp", "sctp", "TCP", ""])
def test_value_with_a_protocol_that_has_no_ports_is_refused(protocol: str) -> None:
    with pytest.raises(InvalidSpec, match=r"expose\.protocol"):
        validate_binding(PortBinding(protocol, 80, 80))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("80:80", "80:81", True),
        ("80:80", "81:80", False),
        ("80:80", "80:80/udp", False),
        ("80-90:80", "90:1", True),
        ("80-90:80", "91:1", False),
        ("1.2.3.4:80:80", "80:80", True),
        ("1.2.3.4:80:80", "1.2.3.5:80:80", False),
        ("1.2.3.4:80:80", "1.2.3.4:80:81", True),
        ("1.2.3.4:80:80", "[2a00::1]:80:80", False),
        ("80:80@10.0.0.0/8", "80:80@192.0.2.0/24", True),  # one host port has one way in, whoever the clients are
    ],
)
def test_bindings_overlap_where_both_would_claim_a_packet(one: str, other: str, overlap: bool) -> None:
    first, second = parse_binding(one), parse_binding(other)
    assert first.overlaps(second) is overlap
    assert second.overlaps(first) is overlap


def test_port_is_a_number_from_1_to_65535() -> None:
    assert [parse_port(value, "p") for value in (1, "65535", "80")] == [1, 65535, 80]
    for value in ("0", 65536, -1, "1.0", "1e3", "", " 1", "٣"):
        with pytest.raises(InvalidSpec):
            parse_port(value, "p")


def test_a_key_reads_as_container_and_interface() -> None:
    assert str(EndpointKey("web")) == "web/eth0"
    assert sorted([EndpointKey("b"), EndpointKey("a", "eth1"), EndpointKey("a")])[0] == EndpointKey("a")


PORTS = st.integers(1, 65535)
BINDS = st.one_of(st.none(), st.just(ip_address("93.184.216.10")), st.just(ip_address("2001:db8::1")))
CLIENTS4 = st.lists(st.sampled_from([ip_network("10.0.0.0/8"), ip_network("1.2.3.4/32")]), unique=True, max_size=2)
CLIENTS6 = st.lists(st.sampled_from([ip_network("2a00::/16"), ip_network("2a01::1/128")]), unique=True, max_size=2)


@st.composite
def bindings(draw: st.DrawFn) -> PortBinding:
    """Every valid binding."""
    bind = draw(BINDS)
    host = draw(PORTS)
    port = draw(st.one_of(st.just(host), PORTS))
    room = min(65535 - host, 65535 - port, 65535 if host == port else 1023)
    length = draw(st.one_of(st.just(0), st.integers(0, room)))
    four = draw(CLIENTS4) if bind is None or bind.version == 4 else []
    six = draw(CLIENTS6) if bind is None or bind.version == 6 else []
    return PortBinding(
        draw(st.sampled_from(("tcp", "udp"))), host, port, host + length if length else 0, bind, (*four, *six)
    )


@given(binding=bindings())
def test_valid_binding_is_accepted_and_overlaps_itself(binding: PortBinding) -> None:
    validate_binding(binding)
    assert binding.overlaps(binding)
    assert msgspec.structs.replace(binding, sources=()).overlaps(binding)


@given(binding=bindings())
def test_written_form_is_read_back(binding: PortBinding) -> None:
    shown, *clients = str(binding).split(" from ")
    assert parse_binding("@".join([shown, ",".join(clients)] if clients else [shown])) == binding


@given(text=st.text(alphabet="0123456789:-[]@/.,tcpud ", max_size=40))
def test_any_text_is_a_binding_or_an_error_of_ours(text: str) -> None:
    try:
        validate_binding(parse_binding(text))
    except InvalidSpec:
        return


def test_any_free_port_is_for_who_says_that_it_may_be() -> None:
    for text, shown in (("auto:80", "auto:80/tcp"), ("[2001:db8::1]:auto:53/udp", "[2001:db8::1]:auto:53/udp")):
        assert str(parse_binding(text, auto=True)) == shown
        with pytest.raises(InvalidSpec, match="host_port"):
            parse_binding(text)
    for wrong in ("auto-9000:80", "0:80", "Auto:80", "-1:80"):
        with pytest.raises(InvalidSpec, match="host_port"):
            parse_binding(wrong, auto=True)
