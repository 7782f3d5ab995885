"""What a proxied port would not be under, and the text of its clients."""

from ipaddress import ip_network

import msgspec
import pytest

from cellwall.model.endpoint import PortBinding
from cellwall.model.policy import Policy, Tiers
from cellwall.model.proxied import proxy_rules, unkept_rates
from cellwall.model.settings import Settings
from scene import endpoint

RATES = ["new_connections", "packets", "bytes", "tenant_new_connections", "tenant_packets", "tenant_bytes"]


@pytest.mark.parametrize("name", RATES)
def test_a_rate_that_is_kept_is_told_and_one_that_is_watched_is_not(name: str) -> None:
    bounded = msgspec.structs.replace(Settings(), **{name: 5})
    assert unkept_rates(bounded) == (f"limits.{name}",)
    assert unkept_rates(msgspec.structs.replace(bounded, watched=(name,))) == ()


def test_numbers_of_connections_at_once_are_kept() -> None:
    assert unkept_rates(Settings(connections=3, tenant_connections=3)) == ()


def test_all_ports_have_one_text_of_a_policys_clients() -> None:
    clients = Policy(sources=(ip_network("2001:db8::/64"), ip_network("192.0.2.0/24")))
    ports = tuple(PortBinding("tcp", 8080 + n, 80, proxy=6) for n in range(3))
    web = msgspec.structs.replace(endpoint("web", 2), bindings=ports, tiers=Tiers(tenant=clients))
    first, *others = proxy_rules([web], (), 9)
    assert first.clients == (("2001:db8::/64",),)
    assert all(other.clients[0] is first.clients[0] for other in others)
    four = msgspec.structs.replace(web, bindings=(PortBinding("tcp", 9000, 80, proxy=4), *ports))
    assert proxy_rules([four], (), 9)[0].clients == (("192.0.2.0/24",),), "each family has its own"
