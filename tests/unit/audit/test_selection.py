"""Which events are given to who asks, and the lines that people read."""

import msgspec
import pytest

from cellwall.audit.events import MAX_REASON, Attempt, Began, Event, Unrecorded, line_of
from cellwall.audit.selection import Selection, hinting, parse_limit, parse_selection, parse_time
from cellwall.audit.shown import journal_entry, shown
from cellwall.errors import InvalidSpec

NOW = 1769860800.5  # 2026-01-31T12:00:00.5Z
WEB = Attempt("2026-01-31T11:00:00.000000Z", "deny", "out", "FWD", "the floor", tenant="acme", container="web")
JOB = msgspec.structs.replace(WEB, container="job", reason="ARP flood", layer="PIN")
RIVAL = msgspec.structs.replace(WEB, tenant="rival", container="web2")
NOBODY = msgspec.structs.replace(WEB, tenant="", container="")
MISSED, LOST, BEGAN = Unrecorded(WEB.time, 5, "rate", "acme", "web"), Unrecorded(WEB.time, 9, "queue"), Began(WEB.time)
OWN = Unrecorded(WEB.time, 7, "rate", "", "own", "eth0")
ALL: tuple[Event, ...] = (WEB, JOB, RIVAL, NOBODY, MISSED, OWN, LOST, BEGAN)


def given(selection: Selection) -> list[Event]:
    may = hinting(selection)
    wanted = [event for event in ALL if selection.wants(event)]
    assert all(may(line_of(event)) for event in wanted)
    return wanted


def test_all_is_given_to_who_asks_for_nothing_in_particular() -> None:
    assert given(Selection()) == list(ALL)


def test_a_tenant_s_events_come_with_what_is_missing_of_them() -> None:
    assert given(Selection(tenant="acme")) == [WEB, JOB, MISSED, LOST, BEGAN]
    assert given(Selection(container="web")) == [WEB, MISSED, LOST, BEGAN]
    assert given(Selection(tenant="rival", container="web")) == [LOST, BEGAN]


def test_what_is_missing_of_a_container_without_a_tenant_is_no_other_s() -> None:
    assert given(Selection(container="own")) == [OWN, LOST, BEGAN]


def test_a_reason_is_a_part_of_what_the_rule_says() -> None:
    assert given(Selection(reason="FLOOR")) == [WEB, RIVAL, NOBODY]
    assert given(Selection(reason="pin arp")) == [JOB]


def test_a_span_has_its_beginning_and_not_its_end() -> None:
    assert given(Selection(since=WEB.time)) == list(ALL)
    assert given(Selection(until=WEB.time)) == []


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("30m", "2026-01-31T11:30:00.500000Z"),
        ("2h", "2026-01-31T10:00:00.500000Z"),
        ("7d", "2026-01-24T12:00:00.500000Z"),
        ("99999d", "1970-01-01T00:00:00.000000Z"),
        ("2026-01-31", "2026-01-31T00:00:00.000000Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00.000000Z"),
        ("2026-01-31 12:00", "2026-01-31T12:00:00.000000Z"),
    ],
)
def test_a_time_is_a_date_or_so_long_ago(text: str, time: str) -> None:
    assert parse_time(text, "since", NOW) == time


@pytest.mark.parametrize("text", ["yesterday", "5", "5w", "-5m", "2026-13-01", "12:00", "9999999d"])
def test_another_time_is_refused_with_field_and_value(text: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_selection(until=text, now=NOW)
    assert (refused.value.field, refused.value.value) == ("until", text)


def test_names_that_nobody_can_have_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="tenant"):
        parse_selection(tenant="no such\nname", now=NOW)
    with pytest.raises(InvalidSpec, match="container"):
        parse_selection(container="../..", now=NOW)


def test_a_reason_is_asked_for_by_so_many_characters_at_most() -> None:
    assert parse_selection(reason="x" * MAX_REASON, now=NOW).reason == "x" * MAX_REASON
    with pytest.raises(InvalidSpec, match="reason"):
        parse_selection(reason="x" * (MAX_REASON + 1), now=NOW)


@pytest.mark.parametrize("text", ["0", "-1", "10001", "x", "", "٣"])
def test_a_limit_is_a_number_within_bounds(text: str) -> None:
    assert (parse_limit("1"), parse_limit("10000")) == (1, 10000)
    with pytest.raises(InvalidSpec, match="limit"):
        parse_limit(text)


def test_a_line_for_people_says_who_tried_what_and_what_kept_it() -> None:
    tcp = msgspec.structs.replace(
        WEB, protocol="tcp", source="192.168.0.2", source_port=4, destination="10.0.0.1", destination_port=80
    )
    where = "192.168.0.2:4 -> 10.0.0.1:80"
    assert shown(tcp) == f"2026-01-31 11:00:00.000000Z acme web out denied: tcp {where} (FWD: the floor)"
    six = msgspec.structs.replace(
        tcp, judgement="watch", source="fd00::2", source_port=None, destination="::1", destination_port=1, tenant=""
    )
    assert " - web out would be denied: tcp fd00::2 -> [::1]:1 " in shown(six)
    ping = msgspec.structs.replace(
        NOBODY, protocol="icmpv6", icmp_type=134, icmp_code=0, fragment=True, mac="02:00:00:00:00:01"
    )
    assert " - - out denied: icmpv6 type 134 code 0 fragment from 02:00:00:00:00:01 (" in shown(ping)
    assert "5 attempts of tenant acme, container web, were not recorded one by one: more than" in shown(MISSED)
    assert "7 attempts of container own were not recorded" in shown(OWN)
    assert "9 attempts of nobody known were not recorded" in shown(LOST)
    assert "recording began" in shown(BEGAN)


def test_an_entry_of_the_journal_has_every_field_that_is_said() -> None:
    """Also where it is zero: an echo reply is of type 0 and code 0, and a port may be it."""
    reply = msgspec.structs.replace(WEB, protocol="icmp", icmp_type=0, icmp_code=0, generation=7)
    entry = journal_entry(reply)
    assert entry["MESSAGE"] == shown(reply)
    assert (entry["CELLWALL_ICMP_TYPE"], entry["CELLWALL_ICMP_CODE"], entry["CELLWALL_GENERATION"]) == ("0", "0", "7")
    probed = msgspec.structs.replace(WEB, protocol="tcp", source_port=0, destination_port=80)
    fields = msgspec.to_builtins(probed)
    del fields["kind"]
    said = {name: value for name, value in journal_entry(probed).items() if name.startswith("CELLWALL_")}
    assert said == {f"CELLWALL_{name.upper()}": str(value) for name, value in fields.items()}
    assert [journal_entry(event)["PRIORITY"] for event in (WEB, MISSED, BEGAN)] == ["5", "4", "4"]
