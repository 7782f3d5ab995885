"""Few networks that hold many: nothing that was announced is left out, whatever was."""

from ipaddress import IPv6Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from cellwall.model.announced import MOST, cover

NETWORKS = st.builds(
    lambda value, length: IPv6Network(((value >> 128 - length << 128 - length) if length else 0, length)),
    st.integers(0, 2**128 - 1),
    st.integers(1, 128),
)


def covering(networks: set[IPv6Network]) -> tuple[list[IPv6Network], bool]:
    found, coarser = cover({(network.network_address.packed, network.prefixlen) for network in networks})
    return [IPv6Network((raw, length)) for raw, length in found], coarser


@given(st.sets(NETWORKS, max_size=3 * MOST))
def test_few_hold_all(networks: set[IPv6Network]) -> None:
    found, coarser = covering(networks)
    assert len(found) <= MOST
    assert all(any(network.subnet_of(block) for block in found) for network in networks)
    assert coarser or set(found) == networks
    assert coarser == (len(networks) > MOST)


def test_they_are_as_small_as_their_number_allows() -> None:
    sites = {IPv6Network((0x2A0A << 112 | number << 64, 64)) for number in range(MOST + 1)}
    assert covering(sites) == ([IPv6Network("2a0a::/48")], True)
    far = {IPv6Network((number << 112, 16)) for number in range(0x2000, 0x2000 + 3 * MOST)}
    assert covering(far) == ([ip_network("2000::/3")], True)
