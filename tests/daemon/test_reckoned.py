"""What was denied and is not recorded one by one, by what rules counted of it: said in time, of whose it is, and never
of what is only read late."""

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec
import pytest

from cellwall.adapters.events.nflog import Heard, Logged
from cellwall.audit.holders import Moment
from cellwall.daemon.audit.recorder import Feed, Recorder
from cellwall.model.endpoint import Endpoint
from cellwall.model.figures import Denied
from cellwall.model.versions import STEM
from daemon.logged import NEXT, WEB, Recorded, packet

By = Literal["port", "sent", "received", "address"]


class Rules:
    """What rules count of what `WEB` sends and is denied, by the version of its policy or however `by` says, with a
    recorder beside them; `seconds` pass where a test says so. `looks`: how often it was looked at them."""

    def __init__(self, *, by: By = "sent", present: Sequence[Endpoint] = (WEB,)) -> None:
        self.counted, self.seconds, self.looks = 0, 0.0, 0
        self.kept, self.feed = Recorded(), Feed()
        self.recorder = Recorder(self.feed, self.kept, lambda: present, self.denied, self.clock)
        self._by = by
        self.recorder.begin("1.0")

    def clock(self) -> Moment:
        return Moment(1_700_000_000 + self.seconds, self.seconds)

    def denied(self) -> Denied:
        """Of what nothing was counted there is no element."""
        self.looks += 1
        count = self.counted
        addresses = {str(WEB.address4): count} if count else {}
        by_version, by_port = {WEB.generation & STEM: count}, {WEB.host_index: count}
        return Denied(
            by_port if count and self._by == "port" else {},
            by_version if count and self._by == "sent" else {},
            by_version if count and self._by == "received" else {},
            addresses if self._by == "address" else None,
        )

    def tell(self, packets: int = 0, *others: Logged, last: bool = False) -> None:
        """So many of the packets that were denied are logged, and these; the recorder has read all that was."""
        logged = (packet(WEB, self.clock().wall),) * packets
        self.recorder.step(Heard((*logged, *others)), drained=True, last=last)


def test_what_rules_counted_and_nobody_was_told_is_said_while_it_goes_on() -> None:
    """Ten of a hundred are told each second; the rest is said within a quarter of a minute, and all of it in time."""
    rules = Rules()
    for second in range(60):
        rules.seconds = float(second)
        rules.counted += 100
        rules.tell(10)
        if second == 15:
            assert rules.kept.unrecorded != []
    rules.tell(last=True)
    assert {(event.container, event.cause) for event in rules.kept.unrecorded} == {("web", "rate")}
    assert sum(event.count for event in rules.kept.unrecorded) == 60 * 90
    assert rules.recorder.tally.tallied().unrecorded == {("acme", "rate"): 60 * 90}


@pytest.mark.parametrize("by", get_args(By))
def test_what_was_counted_and_not_told_is_said_in_the_silence_after_it(by: By) -> None:
    rules = Rules(by=by)
    rules.counted = 50_000
    watched = msgspec.structs.replace(packet(WEB, rules.clock().wall), prefix="FWD watch out: the floor")
    rules.tell(10, *[watched] * 5)  # which is not denied, and not counted with what is
    for half_second in range(2 * 15):
        rules.seconds = half_second / 2
        rules.tell()
    assert [event.count for event in rules.kept.unrecorded] == [49_990]
    assert rules.looks == 3, "one in five seconds"


def test_what_is_read_a_while_after_it_was_counted_is_not_missing() -> None:
    """Of one packet right before each look at the counters the log tells right after it."""
    rules = Rules()
    for half_second in range(2 * 60):
        rules.seconds = half_second / 2
        if half_second % 10 == 9:
            rules.counted += 1
        late = packet(WEB, rules.clock().wall - 2.0)
        rules.tell(0, *([late] if half_second % 10 == 3 and half_second > 10 else []))
    assert rules.kept.whose == ["web"] * 11
    assert rules.kept.unrecorded == []


def test_while_more_is_to_be_read_nothing_is_missing() -> None:
    """A flood that is read for half a minute."""
    rules = Rules()
    rules.counted = 1000
    late = packet(WEB, rules.clock().wall + 0.001)
    for second in range(30):
        rules.seconds = float(second)
        rules.recorder.step(Heard(()), drained=False)
    rules.recorder.step(Heard((late,) * 1000), drained=True)
    rules.tell(last=True)
    assert rules.kept.unrecorded == []


@pytest.mark.parametrize("by", get_args(By))
def test_who_came_right_before_a_look_is_told_of_as_well(by: By, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules(by=by, present=())
    monkeypatch.setattr("cellwall.daemon.audit.recorder.now", rules.clock)
    for half_second in range(2 * 15):
        rules.seconds = half_second / 2
        if half_second == 9:
            rules.feed.change((), [WEB])
            rules.counted = 1000
        rules.tell()
    assert [(event.tenant, event.container, event.count) for event in rules.kept.unrecorded] == [("acme", "web", 1000)]


def test_what_was_counted_while_nobody_listened_is_not_said_to_have_been_too_much() -> None:
    """That nobody did is what is said."""
    rules = Rules()
    rules.counted = 100
    rules.tell(100)
    rules.tell(last=True)
    rules.seconds, rules.counted = 60.0, 5000
    rules.recorder.begin("1.0")
    for half_second in range(2 * 15):
        rules.seconds = 60.0 + half_second / 2
        rules.tell()
    rules.tell(last=True)
    assert rules.kept.unrecorded == []


def test_what_is_counted_by_an_address_that_changes_hands_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known only that it was one of the two."""
    rules = Rules(by="address")
    monkeypatch.setattr("cellwall.daemon.audit.recorder.now", rules.clock)
    for half_second in range(2 * 15):
        rules.seconds = half_second / 2
        if half_second == 1:
            rules.counted = 50_000
            rules.feed.change([WEB], ())
            rules.feed.change((), [NEXT])
        rules.tell()
    assert rules.kept.unrecorded == []


def test_what_rules_forget_in_a_silence_hides_nothing_of_what_comes_after_it() -> None:
    """Of whom nothing was denied for a while rules begin to count anew, and before anybody looks it is more again."""
    rules = Rules()
    rules.counted = 100
    rules.tell(10)
    for second in range(1, 300):
        rules.seconds = float(second)
        rules.counted = rules.counted if second < 120 else 0
        rules.tell()
    rules.counted = 200
    rules.tell(10)
    rules.tell(last=True)
    assert sum(event.count for event in rules.kept.unrecorded) == 90 + 190


def test_what_rules_counted_by_address_is_said_of_whoever_has_it() -> None:
    """A hundred are denied each second and ten told. What the pins deny is no part of what is counted so."""
    rules = Rules(by="address")
    for second in range(60):
        rules.seconds = float(second)
        rules.counted += 100
        by_rules = packet(WEB, rules.clock().wall)
        pinned = bytes(6) + WEB.mac.to_bytes(6) + b"\x08\x00"
        by_pins = msgspec.structs.replace(by_rules, prefix="PIN deny out: spoofed IPv4", hardware=pinned)
        rules.tell(10, by_pins)
    rules.tell(last=True)
    assert rules.kept.whose.count("web") == 60 * 11
    assert {(event.container, event.cause) for event in rules.kept.unrecorded} == {("web", "rate")}
    assert sum(event.count for event in rules.kept.unrecorded) == 60 * 90
