"""What compile chooses from settings and facts: the way out, IPv6 or none, name servers, forms of exposure."""

from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.compile.assemble import denied_prefixes, ipv6_enabled, uplink_of
from cellwall.compile.resolvers import choose_resolvers
from cellwall.compile.usage import Usage, usage_of
from cellwall.model.endpoint import PortBinding, parse_binding
from cellwall.model.facts import Features, NodeFacts, RoutedNetwork
from cellwall.model.resolvers import askable
from cellwall.model.settings import PUBLIC_RESOLVERS, Settings, parse_openings
from cellwall.ruleset.render import render_ruleset
from scene import FACTS, Scene

PRIVATE = ip_address("10.0.0.2")


def resolving(*texts: str) -> NodeFacts:
    return msgspec.structs.replace(FACTS, resolvers=tuple(ip_address(text) for text in texts))


def opened(text: str, **more: object) -> Settings:
    return Settings(exceptions=parse_openings(text, "network.exceptions"), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("interface", "default4", "default6", "expected"),
    [
        ("bond0", "eth0", "eth1", "bond0"),
        ("", "eth0", "eth1", "eth0"),
        ("", "", "eth1", "eth1"),
        ("", "", "", ""),
    ],
)
def test_the_way_out_is_configured_else_a_default_routes(
    interface: str, default4: str, default6: str, expected: str
) -> None:
    facts = NodeFacts(default4=default4, default6=default6)
    assert uplink_of(Settings(interface=interface), facts) == expected


@pytest.mark.parametrize(
    ("setting", "features", "expected"),
    [
        ("auto", Features(), True),
        ("off", Features(), False),
        ("auto", Features(ipv6=False), False),
        ("auto", Features(ipv6_nat=False), False),
    ],
)
def test_ipv6_is_given_only_where_it_can_be_filtered_and_translated(
    setting: str, features: Features, expected: bool
) -> None:
    facts = NodeFacts(features=features)
    carried = facts.features.ipv6_nat
    assert ipv6_enabled(Settings(ipv6=setting), facts, carried=carried) is expected  # type: ignore[arg-type]


def test_resolvers_are_configured_else_the_nodes_own_that_the_floor_allows_else_public() -> None:
    configured = Settings(dns=(ip_address("9.9.9.9"),))
    assert choose_resolvers(configured, resolving("8.8.8.8"), ipv6=True) == (configured.dns, "network.dns")
    mixed = resolving("10.0.0.2", "127.0.0.53", "8.8.8.8", "fd00::53", "2001:4860:4860::8888", "93.184.216.53")
    chosen, origin = choose_resolvers(Settings(), mixed, ipv6=True)
    assert [str(address) for address in chosen] == ["8.8.8.8", "2001:4860:4860::8888"]  # the last is the node's LAN
    assert origin == "the node's resolv.conf"
    stub = resolving("127.0.0.53", "10.0.0.2", "169.254.169.254")
    chosen, origin = choose_resolvers(Settings(), stub, ipv6=True)
    assert chosen == PUBLIC_RESOLVERS
    assert "floor allows none" in origin


def test_configured_resolvers_in_a_network_of_the_node_are_told_apart() -> None:
    """No configuration can be refused for it: the networks of a node come and go."""
    lan = Settings(dns=(ip_address("9.9.9.9"), ip_address("93.184.216.53")))
    chosen, origin = choose_resolvers(lan, FACTS, ipv6=True)
    assert chosen == lan.dns
    assert origin.startswith("93.184.216.53 (network.dns), which")
    opened_too = msgspec.structs.replace(lan, exceptions=parse_openings("lan 93.184.216.53 udp,tcp/53", "x"))
    assert choose_resolvers(opened_too, FACTS, ipv6=True) == (lan.dns, "network.dns")


def behind_a_router(*texts: str, resolvers: tuple[str, ...] = ()) -> NodeFacts:
    networks = tuple(RoutedNetwork("eth0", text) for text in texts)
    return msgspec.structs.replace(resolving(*resolvers), routed=networks)


def test_a_resolver_behind_another_router_than_the_internets_is_none_that_sandboxes_can_ask() -> None:
    node = behind_a_router("151.102.0.0/16", resolvers=("151.102.0.53", "8.8.8.8"))
    assert choose_resolvers(Settings(), node, ipv6=False)[0] == (ip_address("8.8.8.8"),)
    elsewhere = msgspec.structs.replace(Settings(), interface="eth1")
    assert len(choose_resolvers(elsewhere, node, ipv6=False)[0]) == 2
    lan = Settings(dns=(ip_address("151.102.0.53"),))
    assert choose_resolvers(lan, node, ipv6=False)[1].startswith("151.102.0.53 (network.dns), which")


def test_of_the_public_resolvers_those_are_told_that_can_be_asked() -> None:
    chosen, origin = choose_resolvers(Settings(), behind_a_router("1.1.1.1/32"), ipv6=False)
    assert chosen == (ip_address("8.8.8.8"),)
    assert origin == "public resolvers, as the floor allows none of the node's own"
    none = behind_a_router("1.1.1.0/24", "8.8.8.0/24")
    chosen, origin = choose_resolvers(Settings(), none, ipv6=False)
    assert chosen == (ip_address("1.1.1.1"), ip_address("8.8.8.8"))  # they may be elsewhere another day
    assert origin.startswith("1.1.1.1, 8.8.8.8 (public resolvers, as the floor allows none of the node's own), which")


def test_without_ipv6_no_sandbox_is_told_an_ipv6_resolver() -> None:
    only6 = resolving("2001:4860:4860::8888")
    chosen, _ = choose_resolvers(Settings(), only6, ipv6=False)
    assert chosen
    assert {address.version for address in chosen} == {4}
    chosen, _ = choose_resolvers(Settings(), resolving("2001:4860:4860::8888", "8.8.8.8"), ipv6=False)
    assert [str(address) for address in chosen] == ["8.8.8.8"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resolver 10.0.0.2 udp,tcp/53", True),
        ("resolver 10.0.0.2 udp/53", False),  # names over TCP would fail
        ("resolver 10.0.0.2 udp,tcp/5353", False),
        ("resolver 10.0.0.3 udp,tcp/53", False),
    ],
)
def test_a_private_resolver_is_one_only_when_it_is_opened_over_both_transports(text: str, expected: bool) -> None:
    assert askable(opened(text), PRIVATE) is expected
    chosen, _ = choose_resolvers(opened(text), resolving("10.0.0.2"), ipv6=True)
    assert (chosen == (PRIVATE,)) is expected


def test_one_service_may_be_opened_under_two_names() -> None:
    twice = (
        *parse_openings("db 10.0.0.5 tcp/80", "x"),
        *parse_openings("web 10.0.0.5 tcp,udp/80", "x"),
    )
    settings = Settings(exceptions=twice, services=twice, public_addresses=(PRIVATE, PRIVATE))
    text = render_ruleset(Scene(settings=settings).ruleset)
    assert text.count("10.0.0.5 . tcp . 80") == text.count("10.0.0.5 . udp . 80") == 2  # an exception and a service


def test_what_the_operator_protects_is_no_resolver() -> None:
    settings = Settings(protect=(ip_network("8.8.8.0/24"),), public_addresses=(ip_address("1.1.1.1"),))
    for text in ("8.8.8.8", "1.1.1.1"):
        assert not askable(settings, ip_address(text))
        assert askable(Settings(), ip_address(text))


def test_the_floor_is_joined_by_what_is_the_nodes_and_by_nothing_of_the_bridge() -> None:
    joined = denied_prefixes(Settings(), FACTS)
    assert {ip_network("93.184.216.10/32"), ip_network("93.184.216.0/24"), ip_network("172.17.0.0/16")} <= set(joined)
    assert ip_network("192.168.0.0/20") not in joined  # the bridge's own: container to container is denied before


BINDINGS = st.lists(
    st.sampled_from(
        [
            parse_binding(text)
            for text in (
                "80:80", "1.2.3.4:81:80", "82:80@1.0.0.0/8", "1.2.3.4:83:80@1.0.0.0/8", "84:80@2a00::/16",
                "9000-9009:9000", "9100-9109:9100@1.2.0.0/16", "7000-7003:80", "7100-7103:80@5.0.0.0/9",
            )
        ]
    ),
    unique=True,
)  # fmt: skip


@given(some=BINDINGS, others=BINDINGS)
def test_the_forms_of_two_lists_of_bindings_are_the_union_of_their_forms(
    some: list[PortBinding], others: list[PortBinding]
) -> None:
    one, other = usage_of(some), usage_of(others)
    assert one.union(other) == other.union(one) == usage_of([*some, *others])
    assert one.union(one) == one.union(Usage()) == one
    assert set(one.exposed) <= set(one.union(other).exposed)
