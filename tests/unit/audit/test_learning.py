"""A proposal is what was seen, and nothing that was not: valid, and without what must not be opened."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.audit.events import Attempt, Event, Unrecorded
from cellwall.audit.learning import MANY_PORTS, acceptable, proposal_text, propose
from cellwall.config.policy_text import parse_text
from cellwall.engine.policies.calls import check_policy
from cellwall.errors import InvalidSpec
from cellwall.model.policy import Policy, Rule, Tiers, decide
from cellwall.model.policy_document import parse_policy
from cellwall.model.settings import Settings

TIME = "2026-01-31T12:00:00.000000Z"
A, B, SIX = "151.101.1.69", "93.184.216.34", "2a04:4e42::1"
WATCHING = Policy("block", monitor=True)


def tried(
    destination: str, port: int | None = 443, protocol: str = "tcp", *, container: str = "web", **other: object
) -> Attempt:
    fields = {"judgement": "watch", "direction": "out", "layer": "FWD", "reason": "the policy of the tenant"}
    own = {"source": "192.168.0.2", "source_port": None if port is None else 40000, "tenant": "acme"}
    return Attempt(
        TIME,  # type: ignore[arg-type]
        **{**fields, **own, "destination": destination, "destination_port": port, **other},  # type: ignore[arg-type]
        protocol=protocol,
        container=container,
    )


def rules(*events: Event, base: Policy | None = WATCHING, **options: int) -> list[str]:
    return [str(rule) for rule in propose(events, base, **options).policy.rules]


def judged(policy: Policy) -> None:
    check_policy(policy, Settings(), (ip_network("198.51.100.0/24"),), endpoint=False)


def test_what_was_watched_is_allowed_once_whoever_tried_it_how_often() -> None:
    events = [tried(A), tried(A, container="job"), tried(B, 53, "udp"), tried(SIX), tried(SIX, None, "icmpv6")]
    assert rules(*events) == [
        f"allow {A}/32 tcp 443",
        f"allow {B}/32 udp 53",
        f"allow {SIX}/128 tcp 443",
        f"allow {SIX}/128 icmp",
    ]


@pytest.mark.parametrize(
    "event",
    [
        tried(A, judgement="deny"),
        tried(A, None),
        tried(A, None, "udp", fragment=True),
        tried(A, reason="the policy of the endpoint"),
        tried(A, reason="too many packets sent"),
        tried("", None, "0x88cc"),
        tried(A, None, "253"),
    ],
)
def test_nothing_else_is(event: Attempt) -> None:
    assert propose([event], WATCHING).policy == Policy("block")


def test_an_answer_is_judged_by_what_was_asked() -> None:
    answer = tried("192.168.0.2", 40000, direction="in", source=A, source_port=443)
    assert rules(answer) == [f"allow {A}/32 tcp 443"]


def test_what_the_policy_allows_already_is_kept_and_what_it_denies_stays_denied() -> None:
    kept = (Rule("allow", ip_network("8.8.8.0/24")), Rule("deny", ip_network("8.8.8.8/32")))
    base = Policy("allow", kept, links=True, monitor=True)
    assert rules(tried("8.8.8.8"), tried(A), base=base) == [*map(str, kept), f"allow {A}/32 tcp 443"]
    proposal = propose([tried("8.8.8.8"), tried(A)], base)
    assert (proposal.policy.links, proposal.policy.monitor) == (True, False)
    assert [str(rule) for rule, _, _ in proposal.left_out] == ["allow 8.8.8.8/32 tcp 443"]


def test_mail_is_not_opened_because_somebody_tried_it() -> None:
    proposal = propose([tried(A, 25), tried(A, 25, "udp"), tried(A, 587)], WATCHING)
    assert {str(rule) for rule in proposal.rules} == {f"allow {A}/32 udp 25", f"allow {A}/32 tcp 587"}
    assert "mail" in proposal_text(proposal, "tenant acme")


def test_what_the_floor_denies_is_left_out_and_told() -> None:
    events = [tried("10.0.0.5"), tried(A), tried("198.51.100.7"), tried("169.254.169.254", 80), tried("fd00::1")]
    proposal = acceptable(propose(events, WATCHING), judged)
    assert [str(rule) for rule in proposal.policy.rules] == [f"allow {A}/32 tcp 443"]
    assert len(proposal.left_out) == 4
    assert "RFC 1918" in proposal_text(proposal, "tenant acme")


def test_each_is_judged_by_itself_before_all_are_judged_together() -> None:
    """However many are left out, it is looked at the whole no more than a few times, and they count for nothing."""
    events = [tried(f"10.0.{number >> 8}.{number & 255}") for number in range(1200)]
    wholes = 0

    def judge(policy: Policy) -> None:
        nonlocal wholes
        wholes += len(policy.rules) > 1
        judged(policy)

    proposal = acceptable(propose([*events, tried(A), tried(B, 53, "udp")], WATCHING), judge)
    assert [str(rule) for rule in proposal.rules] == [f"allow {A}/32 tcp 443", f"allow {B}/32 udp 53"]
    assert len(proposal.left_out) == 1200 and wholes == 1


def test_what_has_a_port_that_is_not_known_is_missing_and_opens_no_other() -> None:
    """Of a later fragment, or what is cut off behind long headers."""
    proposal = propose([tried(A, None), tried(A), Unrecorded(TIME, 7, "rate", "acme")], WATCHING)
    assert [str(rule) for rule in proposal.rules] == [f"allow {A}/32 tcp 443"]
    assert proposal.unrecorded == 8


def test_what_is_refused_otherwise_is_refused() -> None:
    many = [tried(f"151.101.{number >> 8}.{number & 255}") for number in range(1001)]
    with pytest.raises(InvalidSpec, match=r"at most 1000 rules: .*prefix4"):
        acceptable(propose(many, WATCHING), judged)
    assert len(acceptable(propose(many, WATCHING, prefix4=24), judged).rules) == 4


def test_what_is_refused_beside_the_others_is_left_out_by_its_number_and_nothing_that_was_kept_is() -> None:
    kept = (Rule("allow", ip_network("8.8.8.0/24")), Rule("allow", ip_network("9.9.9.0/24")))
    proposal = propose([tried(A), tried(B), tried(SIX)], Policy("allow", kept, monitor=True))

    def refusing(address: str, field: str = "rules[{}].ports", most: int = 1) -> Callable[[Policy], None]:
        def judge(policy: Policy) -> None:
            for number, rule in enumerate(policy.rules):
                if ip_address(address) in rule.prefix and len(policy.rules) > most:
                    raise InvalidSpec(field.format(number), str(rule), "too much beside the others")

        return judge

    found = acceptable(proposal, refusing(B))
    assert [str(rule) for rule in found.rules] == [f"allow {A}/32 tcp 443", f"allow {SIX}/128 tcp 443"]
    assert [(str(rule), why) for rule, _, why in found.left_out] == [
        (f"allow {B}/32 tcp 443", "too much beside the others")
    ]
    found = acceptable(proposal, refusing(A))
    assert [str(rule) for rule in found.rules] == [f"allow {B}/32 tcp 443", f"allow {SIX}/128 tcp 443"]
    for judge in (refusing("8.8.8.1"), refusing("9.9.9.1"), refusing(A, "sources[{}]"), refusing(A, "policy")):
        with pytest.raises(InvalidSpec, match=r"too much beside the others$"):
            acceptable(proposal, judge)
    with pytest.raises(InvalidSpec, match=r"too much beside the others$"):
        acceptable(propose([], Policy("allow", kept)), refusing("9.9.9.1", "rules"))


def test_addresses_are_widened_as_far_as_is_asked_for() -> None:
    assert rules(tried(A), tried("151.101.1.70"), prefix4=24) == ["allow 151.101.1.0/24 tcp 443"]
    assert rules(tried(SIX), prefix6=48) == ["allow 2a04:4e42::/48 tcp 443"]


def test_a_great_many_ports_of_one_place_are_one_rule() -> None:
    some = [tried(A, 5000 + number) for number in range(MANY_PORTS)]
    assert len(rules(*some)) == MANY_PORTS
    assert rules(*some, tried(A, 9999), tried(A, 53, "udp")) == [f"allow {A}/32 tcp", f"allow {A}/32 udp 53"]


def test_clients_that_were_kept_out_are_let_in_where_the_policy_names_any() -> None:
    asked = tried("192.168.0.2", 80, direction="in", source=B, reason="no client by the policy of the tenant")
    base = Policy("open", sources=(ip_network("8.8.8.0/24"),), monitor=True)
    assert [str(one) for one in propose([asked], base).policy.sources or ()] == ["8.8.8.0/24", f"{B}/32"]
    assert propose([asked], WATCHING).policy.sources is None


def test_the_text_gives_the_policy_back_and_says_what_it_is_from() -> None:
    events = [
        *[tried(A)] * 3,
        tried(B, 53, "udp", container="job"),
        tried("10.0.0.1"),
        Unrecorded(TIME, 7, "rate", "acme"),
    ]
    base = Policy(
        "allow", (Rule("allow", ip_network("8.8.0.0/16"), "tcp", (80, 90)),), (ip_network("::/0"),), links=True
    )
    proposal = acceptable(propose(events, base), judged)
    text = proposal_text(proposal, "tenant acme")
    written = parse_policy(parse_text(text)).policy
    assert (written.mode, set(written.rules)) == ("allow", set(proposal.policy.rules))
    assert (written.sources, written.links, written.monitor) == (proposal.policy.sources, True, False)
    assert "# 3 by web, " in text and "7 attempts were not recorded" in text
    nothing = propose([], WATCHING)
    assert parse_policy(parse_text(proposal_text(nothing, "tenant acme"))).policy == Policy("block")


LATER = "2026-01-31T13:00:00.000000Z"
TEXT = f"""\
# For tenant acme, from what its policy would have denied.
# 7 attempts were not recorded one by one: something may be missing.
version: 1
mode: allow
rules:
  - {{action: allow, prefix: "8.8.0.0/16", protocol: tcp, ports: "80-90"}}
  # 7 by c0, c1, c2, c3, c4 and 2 more, {TIME} to {LATER}
  - {{action: allow, prefix: "{A}/32", protocol: tcp, ports: 443}}
  # 5 by c0, c1, c2, c3, c4, {TIME} to {TIME}
  - {{action: allow, prefix: "{B}/32", protocol: icmp}}
  # 1 by web, {TIME}
  - {{action: allow, prefix: "{B}/32", protocol: udp, ports: 53}}
sources:
  - 9.9.9.0/24
  # 1 by web, {TIME}
  - {B}/32
links: true
# Left out:
#   allow {A}/32 tcp 25: mail: a rule that names it opens it (limits.smtp) (1 by -, {TIME})"""


def test_the_text_says_how_often_by_whom_and_when_the_most_first() -> None:
    kept = Policy(
        "allow", (Rule("allow", ip_network("8.8.0.0/16"), "tcp", (80, 90)),), (ip_network("9.9.9.0/24"),), links=True
    )
    asked = tried("192.168.0.2", 80, direction="in", source=B, reason="no client by the policy of the tenant")
    many = [tried(A, container=f"c{number}") for number in range(7)]
    many[3] = msgspec.structs.replace(many[3], time=LATER)
    events = [
        *[tried(B, None, "icmp", container=f"c{number}") for number in range(5)],
        *[tried(B, 53, "udp"), tried(A, 25, container=""), asked, *many, Unrecorded(TIME, 7, "rate", "acme")],
    ]
    assert proposal_text(propose(events, kept), "tenant acme") == TEXT
    assert proposal_text(propose([asked], kept), "tenant acme").splitlines()[0] == TEXT.splitlines()[0]
    first, *rest = proposal_text(propose([], kept), "container web").splitlines()
    assert first == "# For container web, from what its policy would have denied, of which nothing new is on record."
    assert rest[-1] == "links: true"


_addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6)
_tries = st.builds(
    lambda address, port, protocol: tried(str(address), None if protocol == "icmp" else port, protocol),
    _addresses | st.sampled_from([ip_address(A), ip_address(SIX)]),
    st.integers(0, 65535),
    st.sampled_from(["tcp", "udp", "icmp"]),
)


@given(st.lists(_tries, max_size=30), _tries)
def test_exactly_what_was_seen_is_let_through_but_for_what_must_not_be(seen: list[Attempt], other: Attempt) -> None:
    proposal = acceptable(propose(seen, WATCHING), judged)
    left = {rule for rule, _, _ in proposal.left_out}
    for event in (*seen, other):
        port = event.destination_port or 0
        verdict = decide(Tiers(tenant=proposal.policy), ip_address(event.destination), event.protocol, port).verdict
        was_left = any(rule.covers(ip_address(event.destination), event.protocol, port) for rule in left)
        was_seen = any(
            (one.destination, one.destination_port, one.protocol)
            == (event.destination, event.destination_port, event.protocol)
            for one in seen
        )
        assert (verdict == "allow") == (was_seen and not was_left)
