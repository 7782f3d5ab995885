"""Whatever settings and facts are valid, there is a ruleset of them that can be written, compared and evaluated."""

from collections import Counter
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from cellwall.errors import InvalidSpec
from cellwall.lower.nft.hooks import HOOKS
from cellwall.model.facts import InterfaceAddress, NodeFacts, OnLinkRoute
from cellwall.model.floor import floor_denies, metadata_address
from cellwall.model.network import Network
from cellwall.model.settings import Opening, Settings
from cellwall.names import MET
from cellwall.ruleset.render import render_refresh, render_replacement
from cellwall.ruleset.types import Verdict
from examples import examples
from scene import OTHER, WEB, Scene

ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)
PREFIXES = st.builds(lambda address, cut: ip_network((address, _length(address, cut)), strict=False), ADDRESSES,
                     st.integers(0, 128))  # fmt: skip
INTERFACES = st.sampled_from(["eth0", "eth1", "wg0", "br-x", "b9_br0", "lo"])


def _length(address: IPv4Address | IPv6Address, cut: int) -> int:
    return max(0, address.max_prefixlen - cut)


OPENINGS = st.builds(
    Opening,
    name=st.just("service"),
    address=ADDRESSES.filter(lambda address: not metadata_address(address)),
    protocol=st.sampled_from(["tcp", "udp"]),
    port=st.sampled_from([1, 53, 443, 65535]),
)
SETTINGS = st.builds(
    Settings,
    interface=st.sampled_from(["", "eth1"]),
    public_addresses=st.lists(ADDRESSES, max_size=3).map(tuple),
    protect=st.lists(PREFIXES, max_size=6).map(tuple),
    exceptions=st.lists(OPENINGS, max_size=4).map(tuple),
    services=st.lists(OPENINGS, max_size=4).map(tuple),
    nat_ports=st.sampled_from([(10240, 29999), (1024, 65535), (20000, 20999)]),
    mark=st.sampled_from([0x1, 0x1000, 0x80000000]),
    connections=st.sampled_from([1, 1024, 1 << 20]),
)
FACTS = st.builds(
    lambda addresses, routes, default4, default6, router: NodeFacts(
        addresses=tuple(InterfaceAddress(name, f"{address}/{address.max_prefixlen}") for name, address in addresses),
        on_link=tuple(OnLinkRoute(name, str(prefix)) for name, prefix in routes),
        default4=default4,
        default6=default6,
        forwarding4=router,
        forwarding6=router,
    ),
    st.lists(st.tuples(INTERFACES, ADDRESSES), max_size=5),
    st.lists(st.tuples(INTERFACES, PREFIXES), max_size=5),
    st.sampled_from(["", "eth0"]),
    st.sampled_from(["", "eth0"]),
    st.booleans(),
)


def valid(settings: Settings) -> bool:
    try:
        settings.validate()
    except InvalidSpec:
        return False
    return True


@examples(40)
@given(settings=SETTINGS.filter(valid), facts=FACTS)
def test_valid_settings_have_a_ruleset(settings: Settings, facts: NodeFacts) -> None:
    scene = Scene(WEB, OTHER, settings=settings, facts=facts, uplink="eth0")
    for text in (render_replacement(scene.ruleset), render_refresh(scene.ruleset)):
        assert "chain B9-FORWARD" in text
    assert Scene(WEB, OTHER, settings=settings, facts=facts, uplink="eth0").ruleset == scene.ruleset


@examples(60)
@given(settings=SETTINGS.filter(valid), facts=FACTS, to=ADDRESSES, state=st.sampled_from(["new", "established"]))
def test_no_settings_let_a_sandbox_to_a_neighbour_or_to_what_nobody_opened(
    settings: Settings, facts: NodeFacts, to: IPv4Address | IPv6Address, state: str
) -> None:
    scene = Scene(WEB, OTHER, settings=settings, facts=facts, uplink="eth0")
    opened = {row.address for row in (*settings.exceptions, *settings.services)}
    denied = (*settings.protect, *facts.own_prefixes("b9_br0", "eth0"))
    closed = [to] if to not in opened and floor_denies(to, denied) else []
    targets = [
        *closed,
        *(ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "192.168.0.3", "fd00:abcd::3")),
    ]
    for target, port in product(targets, (53, 443)):
        if target in opened and target not in (OTHER.address4, OTHER.address6):
            continue
        fate = scene.egress(WEB, str(target), "tcp", port, state=state)  # type: ignore[arg-type]
        assert fate.verdict != "accept", (target, fate)


@examples(20)
@given(number=st.integers(1, 14), other=st.integers(1, 14))
def test_wherever_the_gateway_is_the_pins_are_about_it(number: int, other: int) -> None:
    network = Network(
        subnet4=IPv4Network("10.9.0.0/28"),
        gateway4=IPv4Network("10.9.0.0/28")[number],
        subnet6=IPv6Network("fd09::/64"),
        gateway6=IPv6Network("fd09::/64")[other],
    )
    network.validate()
    text = render_replacement(Scene(settings=Settings(network=network)).ruleset)
    assert f"arp daddr ip {network.gateway4}" in text
    assert str(network.gateway6) in text
    assert f"ip daddr {network.subnet4} counter goto told-receiver-RAW-direct-routing-to-a-sandbox-drop" in text


@examples(30)
@given(settings=SETTINGS.filter(valid), facts=FACTS)
def test_every_wall_has_the_chains_that_are_asked_for_and_as_many_rules_lead_to_them(
    settings: Settings, facts: NodeFacts
) -> None:
    tables = Scene(WEB, OTHER, settings=settings, facts=facts, uplink="eth0").ruleset.tables
    chains = {(table.family, chain.name): chain for table in tables for chain in table.chains}
    leading = Counter(
        (home, statement.chain)
        for (home, _), chain in chains.items()
        for rule in chain.rules
        for statement in rule.statements
        if isinstance(statement, Verdict)
    )
    assert all(chains[place].rules and leading[place] == jumps for place, jumps in MET.items())
    assert all((chains[place].hook is None) == bool(jumps) for place, jumps in MET.items())
    assert {name: (home, chain.hook) for (home, name), chain in chains.items() if chain.hook} == HOOKS
