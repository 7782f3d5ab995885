"""How much one endpoint may publish, and that two bindings of one port are found as by comparing each with each."""

from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.errors import Exhausted, InvalidSpec
from cellwall.model.endpoint import MAX_BINDINGS, MAX_CLIENTS, PortBinding, validate_binding
from cellwall.model.published import (
    MAX_ENTRIES,
    MAX_ENTRIES_TOGETHER,
    claimed_twice,
    entries,
    refuse_one_more,
    validate_bindings,
    validate_together,
)

SHIFTED = PortBinding("tcp", 1, 2000, host_port_last=1024)
FEW = st.lists(
    st.builds(
        lambda protocol, first, length, bind: PortBinding(
            protocol, first, first, host_port_last=first + length if length else 0, bind=bind and ip_address(bind)
        ),
        st.sampled_from(["tcp", "udp"]),
        st.integers(1, 40),
        st.integers(0, 5),
        st.sampled_from([None, "192.0.2.1", "192.0.2.2", "2001:db8::1"]),
    ),
    max_size=8,
)


@given(FEW)
def test_one_that_is_claimed_twice_is_one_that_overlaps_another_before_it(bindings: list[PortBinding]) -> None:
    pairs = {place for place, one in enumerate(bindings) for other in bindings[:place] if one.overlaps(other)}
    found = claimed_twice(bindings)
    assert (found is None) == (not pairs)
    assert found is None or found in pairs


def ports(number: int, first: int = 1) -> list[PortBinding]:
    return [PortBinding("tcp", first + port, 80) for port in range(number)]


def test_an_endpoint_has_so_many_bindings_and_no_more() -> None:
    validate_bindings(ports(MAX_BINDINGS))
    refuse_one_more(ports(MAX_BINDINGS))
    with pytest.raises(InvalidSpec, match="64 bindings"):
        validate_bindings(ports(MAX_BINDINGS + 1))
    with pytest.raises(Exhausted, match=f"expose: .* at most {MAX_BINDINGS}"):
        refuse_one_more(ports(MAX_BINDINGS + 1))


def test_ports_of_shifted_ranges_and_networks_of_clients_count() -> None:
    udp = msgspec.structs.replace(SHIFTED, protocol="udp")
    assert entries(SHIFTED) + entries(udp) == MAX_ENTRIES
    assert entries(PortBinding("tcp", 1, 1, host_port_last=60000)) == 1
    validate_bindings([SHIFTED, udp])
    with pytest.raises(InvalidSpec, match="at most"):
        validate_bindings([SHIFTED, udp, PortBinding("tcp", 5000, 80)])
    clients = tuple(ip_network(f"10.0.0.{number}") for number in range(3))
    assert entries(msgspec.structs.replace(SHIFTED, sources=clients)) == 3 * 1024


def test_a_batch_has_a_bound_beside_those_of_its_endpoints() -> None:
    validate_together(ports(MAX_ENTRIES_TOGETHER))
    with pytest.raises(InvalidSpec, match="one batch"):
        validate_together(ports(MAX_ENTRIES_TOGETHER + 1))
    with pytest.raises(InvalidSpec, match="twice in one batch"):
        validate_together(ports(2) + ports(1, first=2))


def test_a_binding_has_so_many_networks_of_clients() -> None:
    clients = tuple(ip_network((number << 8, 24)) for number in range(MAX_CLIENTS + 1))
    validate_binding(PortBinding("tcp", 1, 1, sources=clients[1:]))
    with pytest.raises(InvalidSpec, match="sources"):
        validate_binding(PortBinding("tcp", 1, 1, sources=clients))
