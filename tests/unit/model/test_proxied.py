"""What a proxied port would not be under, and the text of its clients."""

from ipaddress import ip_address, ip_network

import msgspec
import pytest

from cellwall.daemon.proxy.connections import Held
from cellwall.model.endpoint import PortBinding
from cellwall.model.floor import stranger_prefixes
from cellwall.model.policy import Policy, Tiers
from cellwall.model.proxied import MAX_CARRIED, most_connections, proxy_rules, refused_clients, unkept_bounds
from cellwall.model.settings import Settings
from scene import endpoint

RATES = ["new_connections", "packets", "bytes", "tenant_new_connections", "tenant_packets", "tenant_bytes"]


@pytest.mark.parametrize("name", RATES)
def test_a_rate_that_is_kept_is_told_and_one_that_is_watched_is_not(name: str) -> None:
    bounded = msgspec.structs.replace(Settings(), **{name: 5})
    assert unkept_bounds(bounded) == (f"limits.{name}",)
    assert unkept_bounds(msgspec.structs.replace(bounded, watched=(name,))) == ()


def test_an_endpoints_number_of_connections_is_kept() -> None:
    assert unkept_bounds(Settings(connections=3)) == unkept_bounds(Settings(tenant_connections=0)) == ()


def test_a_tenants_number_of_connections_is_kept_where_the_proxy_carries_no_more_of_all() -> None:
    assert Held().most <= MAX_CARRIED
    assert unkept_bounds(Settings(tenant_connections=MAX_CARRIED)) == ()
    assert unkept_bounds(Settings(tenant_connections=MAX_CARRIED - 1)) == ("limits.tenant_connections",)
    assert unkept_bounds(Settings(tenant_connections=9, watched=("tenant_connections",))) == ()


def test_all_ports_have_one_text_of_a_policys_clients() -> None:
    clients = Policy(sources=(ip_network("2001:db8::/64"), ip_network("192.0.2.0/24")))
    ports = tuple(PortBinding("tcp", 8080 + n, 80, proxy=6) for n in range(3))
    web = msgspec.structs.replace(endpoint("web", 2), bindings=ports, tiers=Tiers(tenant=clients))
    first, *others = proxy_rules([web], (), 9)
    assert first.clients == (("2001:db8::/64",),)
    assert all(other.clients[0] is first.clients[0] for other in others)
    four = msgspec.structs.replace(web, bindings=(PortBinding("tcp", 9000, 80, proxy=4), *ports))
    assert proxy_rules([four], (), 9)[0].clients == (("192.0.2.0/24",),), "each family has its own"


def test_whoever_is_no_client_of_a_published_port_is_none_of_a_proxied_one() -> None:
    settings = Settings(public_addresses=(ip_address("203.0.113.9"), ip_address("2001:db8:9::9")))
    refused = refused_clients(settings)
    strangers4, strangers6 = stranger_prefixes(map(ip_network, settings.public_addresses))
    assert {settings.network.subnet4, settings.network.subnet6, *strangers4, *strangers6} <= {*refused}
    for text in ("169.254.169.254", "203.0.113.9", "2001:db8:9::9", "fe80::1", "64:ff9b::1"):
        assert any(ip_address(text) in one for one in refused if one.version == ip_address(text).version), text
    assert not any(ip_address("198.51.100.7") in one for one in refused if one.version == 4)


def test_a_bound_of_connections_that_is_only_watched_is_none_of_a_proxy() -> None:
    assert most_connections(Settings(connections=7)) == 7
    assert most_connections(Settings(connections=7, watched=("connections",))) == MAX_CARRIED
