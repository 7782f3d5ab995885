"""What policies say of a packet."""

from ipaddress import ip_address, ip_network

from cellwall.model.policy import Decision, Mode, Policy, Rule, RuleProtocol, Tiers, admits, decide

WEB = ip_address("93.184.216.34")
WEB6 = ip_address("2606:2800:220:1::1")


def allow(prefix: str, protocol: RuleProtocol = "any", ports: tuple[int, int] | None = None) -> Rule:
    return Rule("allow", ip_network(prefix), protocol, ports)


def deny(prefix: str, protocol: RuleProtocol = "any", ports: tuple[int, int] | None = None) -> Rule:
    return Rule("deny", ip_network(prefix), protocol, ports)


def of(mode: Mode, *rules: Rule, monitor: bool = False) -> Policy:
    return Policy(mode, rules, monitor=monitor)


def test_without_a_policy_everything_that_the_floor_leaves_passes() -> None:
    assert decide(Tiers(), WEB, "udp", 53) == Decision("allow")


def test_an_open_policy_denies_what_it_names_and_nothing_else() -> None:
    tiers = Tiers(tenant=of("open", deny("93.184.216.0/24", "tcp", (25, 25))))
    assert decide(tiers, WEB, "tcp", 25) == Decision("deny", "tenant", 0)
    assert decide(tiers, WEB, "tcp", 26).verdict == "allow"
    assert decide(tiers, WEB, "udp", 25).verdict == "allow"
    assert decide(tiers, WEB, "icmp").verdict == "allow"
    assert decide(tiers, WEB6, "tcp", 25).verdict == "allow"


def test_a_blocking_policy_lets_nothing_out() -> None:
    assert decide(Tiers(endpoint=of("block")), WEB, "icmp") == Decision("deny", "endpoint")


def test_an_allow_list_lets_out_what_it_names() -> None:
    tiers = Tiers(endpoint=of("allow", allow("93.184.216.34/32", "tcp", (80, 443)), allow("2606:2800::/32")))
    assert decide(tiers, WEB, "tcp", 80) == Decision("allow", "endpoint", 0)
    assert decide(tiers, WEB, "tcp", 443).verdict == "allow"
    assert decide(tiers, WEB, "tcp", 444) == Decision("deny", "endpoint")
    assert decide(tiers, WEB, "icmp").verdict == "deny"
    assert decide(tiers, WEB6, "icmp") == Decision("allow", "endpoint", 1)
    assert decide(tiers, ip_address("93.184.216.35"), "tcp", 80).verdict == "deny"


def test_deny_beats_allow_whichever_comes_first() -> None:
    broad, narrow = allow("93.184.216.0/24"), deny("93.184.216.34/32")
    for rules in ((broad, narrow), (narrow, broad)):
        tiers = Tiers(tenant=of("allow", *rules))
        assert decide(tiers, WEB, "tcp", 80) == Decision("deny", "tenant", rules.index(narrow))
        assert decide(tiers, ip_address("93.184.216.1"), "tcp", 80).verdict == "allow"


def test_a_packet_needs_both_tiers() -> None:
    narrow, wide = of("allow", allow("93.184.216.34/32")), of("allow", allow("93.184.216.0/24"))
    for tiers, tier in ((Tiers(narrow, wide), "tenant"), (Tiers(wide, narrow), "endpoint")):
        assert decide(tiers, WEB, "tcp", 80).verdict == "allow"
        refused = decide(tiers, ip_address("93.184.216.1"), "tcp", 80)
        assert (refused.verdict, refused.tier) == ("deny", tier)


def test_a_tier_that_monitors_denies_nothing_and_says_what_it_would_have() -> None:
    watching = of("block", monitor=True)
    assert decide(Tiers(watching), WEB, "tcp", 80) == Decision("allow", monitored=("tenant",))
    assert decide(Tiers(watching, of("block")), WEB, "tcp", 80) == Decision("deny", "endpoint", None, ("tenant",))


def test_clients_are_admitted_by_every_tier_that_names_any() -> None:
    tiers = Tiers(
        Policy(sources=(ip_network("203.0.113.0/24"), ip_network("2001:db8::/32"))),
        Policy(sources=(ip_network("203.0.113.7/32"),)),
    )
    assert admits(Tiers(), WEB) == Decision("allow")
    assert admits(tiers, ip_address("203.0.113.7")) == Decision("allow", "endpoint", 0)
    assert admits(tiers, ip_address("203.0.113.8")) == Decision("deny", "endpoint")
    assert admits(tiers, ip_address("198.51.100.1")) == Decision("deny", "tenant")
    assert admits(tiers, ip_address("2001:db8::1")) == Decision("deny", "endpoint")


def test_a_link_needs_the_tenants_word_and_an_endpoint_that_may_open_something() -> None:
    linking = Policy(links=True)
    assert Tiers(linking).linked
    assert not Tiers().linked
    assert not Tiers(linking, of("block")).linked
    assert Tiers(linking, of("block", monitor=True)).linked
    assert not Tiers(linking, of("allow", allow("151.101.1.69"))).linked
    denying = Tiers(linking, of("open", deny("192.168.0.0/16"), deny("::/0", "tcp")))
    assert not denying.linked_at(ip_address("192.168.0.2"))
    assert denying.linked_at(ip_address("fd00:abcd::2"))
