"""What policies are refused, where, and why."""

from ipaddress import ip_network

import pytest

from cellwall.compile.policy_size import MAX_ENTRIES, MAX_FORMS_OF_ONE
from cellwall.engine.policies.calls import check_policy
from cellwall.errors import InvalidSpec
from cellwall.model.policy import Policy, Rule
from cellwall.model.policy_check import MAX_RULES, MAX_SOURCES, ground_of, validate_policy
from cellwall.model.settings import Settings, parse_openings
from unit.policy.test_decisions import allow, deny, of

GROUND = ground_of(
    Settings(protect=(ip_network("93.0.2.0/24"),), exceptions=parse_openings("db 10.0.0.5 tcp/5432", "x")),
    [ip_network("93.184.216.0/24")],
)


def refused(policy: Policy, tier: str = "tenant") -> tuple[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        validate_policy(policy, GROUND, "endpoint" if tier == "endpoint" else "tenant")
    return caught.value.field, caught.value.reason


def accepted(policy: Policy) -> None:
    validate_policy(policy, GROUND, "tenant")


def test_a_list_that_allows_nothing_is_shown_as_the_list_that_it_is() -> None:
    with pytest.raises(InvalidSpec) as caught:
        validate_policy(Policy("allow"), GROUND, "tenant")
    assert str(caught.value) == "rules: []: allow nothing; the mode block says so"


@pytest.mark.parametrize(("prefix", "named"), [
    ("10.0.0.0/8", "10.0.0.0/8 (private use, RFC 1918)"),
    ("10.1.2.3/32", "10.0.0.0/8 (private use, RFC 1918)"),
    ("169.254.169.254/32", "169.254.169.254/32 (instance metadata"),
    ("168.63.129.16/32", "168.63.129.16/32 (wire server"),
    ("224.0.0.0/3", "224.0.0.0/3"),  # two ranges together
    ("93.0.2.128/25", "93.0.2.0/24 (protected by the operator"),
    ("93.184.216.34/32", "93.184.216.0/24 (the node's own network"),
    ("192.168.3.0/24", "192.168.0.0/20 (the sandboxes' own network"),
    ("2001:db8::/32", "2001:db8::/32 (documentation"),
    ("::ffff:0:0/96", "2000::/3"),
    ("fd00::/8", "2000::/3"),
    ("::/3", "2000::/3"),
])  # fmt: skip
def test_an_allowance_that_the_floor_swallows_is_refused_with_the_range(prefix: str, named: str) -> None:
    field, reason = refused(of("allow", allow("1.1.1.1/32"), allow(prefix, "tcp", (80, 80))))
    assert field == "rules[1].prefix"
    assert named in reason


@pytest.mark.parametrize("prefix", ["0.0.0.0/0", "8.0.0.0/6", "93.184.216.0/23", "::/0", "2000::/3", "2001::/22"])
def test_an_allowance_that_the_floor_swallows_in_part_holds_for_the_rest(prefix: str) -> None:
    accepted(of("allow", allow(prefix)))


def test_an_allowance_of_what_the_operator_opened_is_accepted() -> None:
    accepted(of("allow", allow("10.0.0.5/32", "tcp", (5432, 5432))))
    accepted(of("allow", allow("10.0.0.0/8")))
    for rule in (allow("10.0.0.5/32", "udp"), allow("10.0.0.5/32", "tcp", (80, 81)), allow("10.0.0.4/32")):
        assert refused(of("allow", rule))[0] == "rules[0].prefix"


def test_a_denial_of_what_the_floor_denies_says_so_twice() -> None:
    accepted(of("open", deny("10.0.0.0/8")))


@pytest.mark.parametrize(("policy", "field"), [
    (of("block", deny("1.1.1.1/32")), "rules[0]"),
    (of("open", deny("1.1.1.0/24"), allow("1.1.1.1/32")), "rules[1].action"),
    (of("open", allow("0.0.0.0/0", "tcp", (25, 25)), allow("8.8.8.8/32", "tcp", (25, 25))), "rules[1].prefix"),
    (of("allow"), "rules"),
    (of("allow", deny("1.1.1.1/32")), "rules"),
    (of("allow", allow("1.1.1.1/32"), allow("1.1.1.1/32")), "rules[1]"),
    (of("allow", allow("1.1.1.1/32"), deny("1.1.1.1/32")), "rules[0]"),
    (of("allow", allow("2.0.0.0/8"), allow("1.1.1.1/32", "tcp", (80, 80)), deny("1.0.0.0/8", "tcp")), "rules[1]"),
    (of("open", deny("1.1.1.1/32", "any", (80, 80))), "rules[0].ports"),
    (of("open", deny("1.1.1.1/32", "icmp", (8, 8))), "rules[0].ports"),
    (of("open", deny("1.1.1.1/32", "tcp", (-1, 8))), "rules[0].ports"),
    (of("open", deny("1.1.1.1/32", "udp", (9, 8))), "rules[0].ports"),
    (of("open", deny("1.1.1.1/32", "udp", (9, 65536))), "rules[0].ports"),
    (Policy(sources=()), "sources"),
    (Policy(sources=(ip_network("1.1.1.1/32"), ip_network("127.0.0.0/8"))), "sources[1]"),
    (Policy(sources=(ip_network("ff02::/16"),)), "sources[0]"),
    (Policy(sources=(ip_network("::ffff:203.0.113.0/120"),)), "sources[0]"),
    (Policy(sources=(ip_network("1.1.1.1/32"), ip_network("1.1.1.1/32"))), "sources[1]"),
])  # fmt: skip
def test_what_is_empty_impossible_or_contradictory_is_refused_where_it_stands(policy: Policy, field: str) -> None:
    assert refused(policy)[0] == field


def test_a_denial_that_takes_a_part_of_an_allowance_is_what_denials_are_for() -> None:
    accepted(of("allow", allow("1.0.0.0/8"), deny("1.1.1.1/32"), deny("1.0.0.0/8", "tcp", (25, 25))))
    accepted(of("allow", allow("1.1.1.1/32"), deny("1.0.0.0/8", "tcp")))
    accepted(of("allow", allow("1.1.1.1/32", "tcp", (1, 99)), deny("1.0.0.0/8", "tcp", (2, 99))))


def test_links_are_for_the_tenant_to_say() -> None:
    accepted(Policy(links=True))
    assert refused(Policy(links=True), "endpoint")[0] == "links"


def test_the_number_of_rules_and_of_clients_is_bounded() -> None:
    rules = tuple(Rule("deny", ip_network((0x01000000 + place, 32))) for place in range(MAX_RULES + 1))
    accepted(Policy(rules=rules[:MAX_RULES]))
    assert refused(Policy(rules=rules))[0] == "rules"
    sources = tuple(rule.prefix for rule in rules[: MAX_SOURCES + 1])
    accepted(Policy(sources=sources[:MAX_SOURCES]))
    assert refused(Policy(sources=sources))[0] == "sources"


def test_a_service_of_the_node_can_be_listed() -> None:
    """Policies decide over services of the node, too: one that allows nothing else allows the resolver there."""
    settings = Settings(services=parse_openings("dns 192.168.0.1 udp,tcp/53", "x"))
    ground = ground_of(settings, ())
    validate_policy(of("allow", allow("192.168.0.1/32", "udp", (53, 53))), ground, "tenant")
    with pytest.raises(InvalidSpec):
        validate_policy(of("allow", allow("192.168.0.1/32", "udp", (54, 54))), ground, "tenant")


def large(policy: Policy) -> tuple[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        check_policy(policy, Settings(), (), endpoint=False)
    return caught.value.field, caught.value.reason


def of_networks(count: int, ports: tuple[int, int]) -> Policy:
    rules = (deny(str(ip_network((0x01000000 + (place << 8), 24))), "tcp", ports) for place in range(count))
    return of("open", *rules)


def test_entries_are_bounded_and_a_rule_is_one_for_each_block_of_its_ports() -> None:
    """1-65534 are 30 blocks."""
    fits = of_networks(MAX_ENTRIES // 30, (1, 65534))
    assert check_policy(fits, Settings(), (), endpoint=False) == fits
    field, reason = large(of_networks(1000, (1, 65534)))
    assert field == f"rules[{MAX_ENTRIES // 30}]"
    assert f"{MAX_ENTRIES} entries" in reason
    whole = of_networks(1000, (1024, 1027))
    assert check_policy(whole, Settings(), (), endpoint=False) == whole


def test_forms_of_one_policy_are_bounded() -> None:
    lengths = [deny(f"1.0.0.0/{length}") for length in range(8, 33)] + [deny(f"2000::/{n}") for n in range(3, 43)]
    fits = of("open", *lengths[:MAX_FORMS_OF_ONE])
    assert check_policy(fits, Settings(), (), endpoint=False) == fits
    field, reason = large(of("open", *lengths))
    assert field == f"rules[{MAX_FORMS_OF_ONE}]"
    assert f"{MAX_FORMS_OF_ONE} forms" in reason
    clients = (ip_network("198.49.23.0/24"),)
    assert large(Policy("open", fits.rules, clients))[0] == "sources[0]"
