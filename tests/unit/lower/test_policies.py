"""Policies in rules against the pure decision: any policies, any packet, either direction of its flow."""

from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from cellwall.compile.policy_forms import port_blocks
from cellwall.compile.usage import PolicyUsage, usage_of_endpoints
from cellwall.lab import addresses as at
from cellwall.lower.nft.elements import endpoint_elements
from cellwall.lower.nft.sets import schema_of
from cellwall.model.endpoint import Endpoint
from cellwall.model.policy import MAIL_PORT, Policy, Rule, RuleProtocol, Tiers, admits, decide
from cellwall.model.settings import Settings, parse_openings
from cellwall.ruleset.compose import flow_packet
from cellwall.ruleset.context import Context, Flow
from cellwall.ruleset.types import Counter
from cellwall.ruleset.types import Rule as Rewritten
from examples import examples
from scene import GATEWAY4, GATEWAY_MAC, OTHER, PUBLIC4, Scene, endpoint, flow_of, judged

# Everything near enough to meet: addresses beside each other, ports beside each other.
DESTINATIONS = ["151.101.1.69", "151.101.1.70", "151.101.2.1", "8.8.8.8", "2a04:4e42::1", "2a04:4e42::2", "2a05::1"]
PREFIXES = ["0.0.0.0/0", "151.101.0.0/16", "151.101.1.0/24", "151.101.1.69/32", "151.101.1.68/30", "::/0",
            "2a04::/16", "2a04:4e42::1/128", "2a04:4e42::/127"]  # fmt: skip
CLIENTS = [at.LAN4, at.INTERNET4, "8.8.8.8", at.LAN6, at.INTERNET6, "2001:4860::8"]
SOURCES = ["0.0.0.0/0", f"{at.LAN4}/32", "8.0.0.0/8", "::/0", f"{at.LAN6}/128", "2001:4860::/32"]
PORTS = [0, 1, 22, 25, 79, 80, 443, 1023, 1024, 65535]


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    protocol: RuleProtocol = draw(st.sampled_from(["any", "tcp", "udp", "icmp"]))
    first, last = sorted((draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))))
    with_ports = protocol != "icmp" and draw(st.booleans())
    return Rule(
        draw(st.sampled_from(["allow", "deny"])),
        ip_network(draw(st.sampled_from(PREFIXES))),
        protocol,
        (first, last) if with_ports else None,
    )


POLICIES = st.builds(
    Policy,
    mode=st.sampled_from(["open", "block", "allow", "allow"]),
    rules=st.lists(rules(), max_size=5).map(tuple),
    sources=st.none() | st.lists(st.sampled_from(SOURCES).map(ip_network), max_size=3).map(tuple),
    monitor=st.sampled_from([False, False, True]),
)
TIERS = st.builds(Tiers, tenant=st.just(Policy()) | POLICIES, endpoint=st.just(Policy()) | POLICIES)


def under(tiers: Tiers, *bindings: str, number: int = 2) -> Endpoint:
    return msgspec.structs.replace(endpoint(f"c{number}", number, *bindings), tiers=tiers)


@examples(120)
@given(tiers=TIERS, neighbour=TIERS, data=st.data())
def test_what_a_sandbox_opens_is_decided_as_the_policies_say(
    tiers: Tiers, neighbour: Tiers, data: st.DataObject
) -> None:
    one, other = under(tiers), under(neighbour, number=3)
    scene = Scene(one, other)
    for sender in (one, other):
        for destination in data.draw(st.lists(st.sampled_from(DESTINATIONS), min_size=1, max_size=4, unique=True)):
            protocol, port = data.draw(st.sampled_from(["tcp", "udp", "icmp"])), data.draw(st.sampled_from(PORTS))
            decision = decide(sender.tiers, ip_address(destination), protocol, 0 if protocol == "icmp" else port)
            lists_mail = sender.tiers.lists_mail(6 if ":" in destination else 4)
            note(f"{sender.tiers} {destination} {protocol} {port}: {decision}")
            fate = scene.egress(sender, destination, protocol, port)
            if decision.verdict == "allow" and (protocol, port) == ("tcp", MAIL_PORT) and not lists_mail:
                assert judged(fate) == ("reject", "mail to a server", "FWD")
            elif decision.verdict == "allow":
                assert (fate.verdict, fate.mark) == ("accept", sender.generation)
            else:
                assert judged(fate) == ("reject", f"the policy of the {decision.tier}", "FWD")
            assert watched(scene, fate) == decision.monitored
            # A flow that goes on is asked for what it was, and not its packet for what it says.
            again = scene.egress(sender, destination, protocol, port, state="established")
            assert (again.verdict, again.mark) == (fate.verdict, fate.mark)
            assert answered(scene, sender, destination, protocol, port) == fate.verdict.replace("reject", "drop")


@examples(80)
@given(tiers=TIERS, data=st.data())
def test_who_asks_of_a_published_port_is_decided_as_the_policies_say(tiers: Tiers, data: st.DataObject) -> None:
    one = under(tiers, "8080:80", "8080:80/udp")
    scene = Scene(one, OTHER)
    for client in CLIENTS:
        protocol = data.draw(st.sampled_from(["tcp", "udp"]))
        decision = admits(tiers, ip_address(client))
        fate = scene.ingress(client, at.NODE6 if ":" in client else at.NODE4, protocol)
        if decision.verdict == "allow":
            assert (fate.verdict, fate.mark) == ("accept", one.generation)
        else:
            assert judged(fate) == ("drop", f"no client by the policy of the {decision.tier}", "FWD")
        assert watched(scene, fate) == decision.monitored
        # What it would answer, once its version is another, has the same fate.
        assert scene.answer(one, client, protocol).verdict == fate.verdict


def watched(scene: Scene, fate: object) -> tuple[str, ...]:
    """The tiers that counted the packet and let it pass."""
    rules = [scene._rule(step.family, step.chain, step.index) for step in fate.evaluation.path]  # type: ignore[attr-defined]
    said = [rule.comment for rule in rules if Counter() in rule.statements]
    return tuple(text.split()[-4].rstrip(",") for text in said if text.endswith("which only watches"))


def answered(scene: Scene, sender: Endpoint, destination: str, protocol: str, port: int) -> str:
    """The fate of an answer in a flow that no version in force decided."""
    own = str(sender.address6 if ":" in destination else sender.address4)
    going = flow_of(own, destination, protocol, port)
    node = at.NODE6 if ":" in destination else at.NODE4
    coming = msgspec.structs.replace(going.reversed(), destination=int(ip_address(node)))
    entry = Flow(going, coming, "established", "reply", frozenset(("snat", "confirmed")))
    # in the forward path: the kernel has taken the masquerade back by then
    return scene.walk(
        flow_packet(going.reversed()),
        [Context("inet", "forward", "eth0", "b9_br0", iif=2, oif=5, flow=entry, fib_saddr_type="unicast")],
    ).verdict


# ---------------------------------------------------------------- rows that state a decision


DENY_MAIL = Tiers(tenant=Policy(rules=(Rule("deny", ip_network("0.0.0.0/0"), "tcp", (25, 25)),)))
BLOCKED = Tiers(endpoint=Policy(mode="block"))


def test_without_policies_no_rule_asks_for_any() -> None:
    assert usage_of_endpoints([OTHER]).policies == PolicyUsage()


def test_rules_do_not_depend_on_how_many_are_under_policies() -> None:
    few_of_them = Scene(under(DENY_MAIL))
    many = Scene(*(under(DENY_MAIL, number=number) for number in range(2, 30)))
    assert few_of_them.rules == many.rules


def test_a_flow_that_an_earlier_version_let_through_walks_the_policy_again() -> None:
    one = msgspec.structs.replace(under(BLOCKED), past_generations=(7,))
    scene = Scene(one)
    assert judged(scene.egress(one, PUBLIC4, state="established", mark=7))[0] == "reject"
    assert judged(scene.egress(one, PUBLIC4, state="established", mark=one.generation))[0] == "accept"


def test_the_floor_comes_before_any_policy() -> None:
    everything = Tiers(endpoint=Policy(mode="allow", rules=(Rule("allow", ip_network("0.0.0.0/0")),)))
    one = under(everything)
    assert judged(Scene(one).egress(one, "169.254.169.254")) == ("reject", "the floor", "FWD")


@pytest.mark.parametrize("state", ["new", "established"])
def test_a_service_of_the_node_is_subject_to_policies(state: str) -> None:
    settings = Settings(services=parse_openings(f"dns {GATEWAY4} udp/53", "x"))
    listed = Tiers(tenant=Policy(mode="allow", rules=(Rule("allow", ip_network(GATEWAY4), "udp", (53, 53)),)))
    closed, opened, free = under(BLOCKED), under(listed, number=3), under(Tiers(), number=4)
    scene = Scene(closed, opened, free, settings=settings)
    for sender, verdict in ((closed, "reject"), (opened, "accept"), (free, "accept")):
        fate = scene.egress(sender, GATEWAY4, "udp", 53, state=state)  # type: ignore[arg-type]
        assert fate.verdict == verdict
        assert fate.mark == (sender.generation if verdict == "accept" else 0)
    live = scene.egress(closed, GATEWAY4, "udp", 53, state="established", mark=closed.generation)
    assert live.verdict == "accept"


def test_what_a_policy_denies_takes_no_part_in_the_connections_of_its_endpoint() -> None:
    one = under(BLOCKED)
    assert judged(Scene(one).egress(one, PUBLIC4, over=("flows4",)))[1] == "the policy of the endpoint"


# ---------------------------------------------------------------- forms


@given(st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted))
def test_blocks_of_ports_are_exactly_the_ports(bounds: list[int]) -> None:
    first, last = bounds
    covered = [port for start, bits in port_blocks(first, last) for port in range(start, start + (1 << 16 - bits))]
    assert covered == list(range(first, last + 1))
    assert all(start % (1 << 16 - bits) == 0 for start, bits in port_blocks(first, last))
    assert len(list(port_blocks(first, last))) <= 30


@given(tiers=TIERS)
def test_every_element_of_a_policy_has_a_set_and_none_comes_twice(tiers: Tiers) -> None:
    one = under(tiers)
    schema = schema_of(usage_of_endpoints([one]))
    elements = list(endpoint_elements(one))
    assert len(set(elements)) == len(elements)
    for family, name, element in elements:
        assert len(schema[family, "cellwall", name].key) == len(element.key)


@given(st.lists(TIERS, max_size=3), st.lists(TIERS, max_size=3))
def test_forms_in_use_add_up(some: list[Tiers], others: list[Tiers]) -> None:
    one, other = (usage_of_endpoints([under(tiers) for tiers in group]) for group in (some, others))
    assert one.union(other) == other.union(one) == usage_of_endpoints([under(tiers) for tiers in (*some, *others)])
    assert one.union(one) == one


# ---------------------------------------------------------------- sandboxes that reach each other


LINKS = Policy(links=True)


def tenants(*several: tuple[Tiers, int]) -> list[Endpoint]:
    """Endpoints under these policies, each with the number of its tenant's."""
    return [
        under(msgspec.structs.replace(tiers, number=number), number=2 + at)
        for at, (tiers, number) in enumerate(several)
    ]


BOTH_WAYS = [("192.168.0.{}", "tcp"), ("192.168.0.{}", "udp"), ("192.168.0.{}", "icmp"), ("fd00:abcd::{}", "tcp"),
             ("fd00:abcd::{}", "icmp")]  # fmt: skip


@pytest.mark.parametrize(("address", "protocol"), BOTH_WAYS)
def test_sandboxes_of_a_tenant_that_links_them_reach_each_other_and_nobody_else(address: str, protocol: str) -> None:
    one, two, other, alone, blocked, watched_one, listing = tenants(
        (Tiers(LINKS), 7),
        (Tiers(LINKS), 7),
        (Tiers(LINKS), 8),
        (Tiers(), 0),
        (Tiers(LINKS, Policy(mode="block")), 7),
        (Tiers(LINKS, Policy(mode="block", monitor=True)), 7),
        (Tiers(LINKS, Policy(mode="allow")), 7),
    )
    crowd = [one, two, other, alone, blocked, watched_one, listing]
    scene = Scene(*crowd)
    linked = [one, two, watched_one]
    for sender in crowd:
        for receiver in crowd:
            fate = scene.egress(sender, address.format(receiver.host_index - 100), protocol)
            if sender is receiver:
                continue
            if sender in linked and receiver in linked:
                assert judged(fate) == ("accept", "linked", "")
            else:
                assert judged(fate) == ("reject", "container to container", "FWD")


@pytest.mark.parametrize("ends", [(7, 7), (7, 0), (0, 7), (7, 8)])
def test_a_link_ends_with_either_end_and_whatever_its_flow_was_stamped_with(ends: tuple[int, int]) -> None:
    one, two = tenants(*((Tiers(LINKS) if number else Tiers(), number) for number in ends))
    scene = Scene(one, two, usage=usage_of_endpoints([under(Tiers(LINKS))]))
    for mark in (0, 0x80000007, one.generation, two.generation):
        fate = scene.egress(one, str(two.address4), state="established", mark=mark)
        assert fate.verdict == ("accept" if ends == (7, 7) else "reject")


def test_a_link_takes_part_in_the_connections_of_its_sender_and_is_of_three_protocols() -> None:
    one, two = tenants((Tiers(LINKS), 7), (Tiers(LINKS), 7))
    scene = Scene(one, two)
    assert judged(scene.egress(one, str(two.address4), over=("flows4",)))[1] == "too many connections"
    bound = Scene(one, two, settings=Settings(new_connections=20))
    fast = bound.egress(one, str(two.address4), over=("newflows4",))
    assert judged(fast) == ("drop", "too many new connections", "FWD")
    assert bound.egress(one, str(two.address4)).verdict == "accept"
    assert bound.egress(one, str(two.address4), state="established", over=("newflows4",)).verdict == "accept"
    assert judged(scene.egress(one, str(two.address4), "47"))[1] == "protocol"


def test_a_link_that_another_table_leads_elsewhere_is_none() -> None:
    one, two = tenants((Tiers(LINKS), 7), (Tiers(LINKS), 7))
    scene = Scene(one, two, OTHER)
    going = flow_of(str(one.address4), str(two.address4))
    led = msgspec.structs.replace(going.reversed(), source=int(OTHER.address4))
    entry = Flow(going, led, "new", "original", frozenset(("dnat",)))
    packet = flow_packet(msgspec.structs.replace(going, destination=int(OTHER.address4)), source_mac=one.mac,
                         destination_mac=GATEWAY_MAC)  # fmt: skip
    assert judged(scene.from_sandbox(one, packet, entry)) == ("reject", "container to container", "FWD")


# ---------------------------------------------------------------- a packet that meets a change half-way


def torn(scene: Scene, *stages: str) -> Scene:
    """As a packet sees it that found nothing at these stages, and only then a change came into force."""
    led = {name: next(row for row in chain.rules if not row.comment) for table in scene.ruleset.tables
           for chain in table.chains for name in [chain.name] if name in stages}  # fmt: skip
    tables = tuple(
        msgspec.structs.replace(
            table,
            chains=tuple(
                msgspec.structs.replace(chain, rules=(Rewritten(led[chain.name].statements[-1:]),))
                if chain.name in led
                else chain
                for chain in table.chains
            ),
        )
        for table in scene.ruleset.tables
    )
    return scene.under(msgspec.structs.replace(scene.ruleset, tables=tables))


@pytest.mark.parametrize("mark", [0, 7], ids=["a new flow", "one of an earlier version"])
def test_what_was_stamped_by_a_version_is_judged_by_what_that_one_judges_by(mark: int) -> None:
    one = msgspec.structs.replace(under(Tiers(DENY_MAIL.tenant, Policy(mode="block"))), past_generations=(7,))
    half_way = torn(Scene(one, settings=Settings(smtp="open")), "tenant-policy", "endpoint-policy")
    for port, tier in ((25, "tenant"), (26, "endpoint")):
        fate = half_way.egress(one, PUBLIC4, "tcp", port, mark=mark, state="established" if mark else "new")
        assert (*judged(fate), fate.mark) == ("reject", f"the policy of the {tier}", "FWD", 0)


def test_a_client_that_was_stamped_by_a_version_is_judged_by_what_that_one_judges_by() -> None:
    one = under(Tiers(Policy(sources=(ip_network("203.0.113.0/24"),))), "8080:80")
    half_way = torn(Scene(one), "tenant-clients")
    fate = half_way.ingress("8.8.8.8", at.NODE4)
    assert (*judged(fate), fate.mark) == ("drop", "no client by the policy of the tenant", "FWD", 0)
    assert half_way.ingress("203.0.113.9", at.NODE4).mark == one.generation


def test_a_policy_that_only_watches_counts_a_flow_once() -> None:
    one = under(Tiers(Policy(mode="block", monitor=True)))
    scene = Scene(one)
    fate = scene.egress(one, PUBLIC4)
    assert (fate.verdict, fate.mark, watched(scene, fate)) == ("accept", one.generation, ("tenant",))
