"""One step from logged packets to events on record: whose they are, what is said of what is missing, and what a disk
that is full costs."""

from collections.abc import Sequence

import msgspec

from cellwall.adapters.events.files import Appended
from cellwall.adapters.events.nflog import Heard, Logged
from cellwall.audit.events import Attempt, Began, Event, Unrecorded, event_of, line_of
from cellwall.audit.holders import Moment
from cellwall.audit.packets import IPV4
from cellwall.daemon.audit.recorder import Feed, Recorder, now
from cellwall.daemon.audit.thread import Auditor
from cellwall.model.endpoint import Endpoint
from cellwall.model.figures import Denied
from cellwall.model.settings import Audit
from cellwall.model.versions import STEM
from scene import WEB, endpoint
from unit.audit.octets import ipv4

NEXT = msgspec.structs.replace(endpoint("next", 2), host_index=300)


class Recorded:
    """Files that take so many events more, and then none."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.events: list[Event] = []
        self.room = room

    def append(self, events: Sequence[Event]) -> Appended:
        taken = events[: self.room]
        self.room -= len(taken)
        self.events += [event_of(line_of(event)) for event in taken]
        return Appended(len(taken), "" if len(taken) == len(events) else "no space left on device")

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def packet(one: Endpoint, stamp: float) -> Logged:
    octets = ipv4(17, b"\0\1\0\2\0\10\0\0", source=str(one.address4), destination="10.0.0.1")
    return Logged("FWD deny out: the floor", 2, 2, IPV4, 5, 2, 0, 0, 0, stamp, 0, b"", octets)


def recorder(kept: Recorded, feed: Feed, *present: Endpoint) -> Recorder:
    return Recorder(feed, kept, lambda: present)


def test_what_was_there_before_is_known_and_the_beginning_is_said() -> None:
    kept, feed = Recorded(), Feed()
    made = recorder(kept, feed, WEB)
    made.begin("1.0")
    made.step(Heard((packet(WEB, now().wall),)), drained=True)
    began, attempt = kept.events
    assert isinstance(began, Began)
    assert began.program == "1.0"
    assert isinstance(attempt, Attempt)
    assert (attempt.container, attempt.generation) == ("web", WEB.generation)
    assert made.tally.tallied().recorded == {("web", "FWD", "the floor", "deny"): 1}


def test_a_packet_of_who_has_gone_meanwhile_is_not_the_next_one_s() -> None:
    kept, feed = Recorded(), Feed()
    made = recorder(kept, feed)
    feed.change((), [WEB])
    sent = now().wall
    feed.change([WEB], ())
    feed.change((), [NEXT])
    made.step(Heard((packet(WEB, sent), packet(NEXT, now().wall))), drained=True)
    assert [event.container for event in kept.events if isinstance(event, Attempt)] == ["web", "next"]


def test_what_the_queue_lost_is_said_by_an_event_and_not_for_each() -> None:
    kept, feed = Recorded(), Feed()
    made = recorder(kept, feed)
    for _ in range(50):
        made.step(Heard((), lost=2), drained=True)
    made.step(Heard(()), drained=True, last=True)
    said = kept.of(Unrecorded)
    assert len(said) <= 3
    assert sum(event.count for event in said if isinstance(event, Unrecorded)) == 100
    assert {event.cause for event in said if isinstance(event, Unrecorded)} == {"queue"}
    assert made.tally.tallied().lost("queue") == 100


def test_what_a_full_disk_costs_is_counted_by_tenant_and_said_once_there_is_room() -> None:
    kept, feed = Recorded(room=1), Feed()
    made = recorder(kept, feed, WEB)
    made.begin("1.0")
    stamp = now().wall
    for _ in range(5):
        made.step(Heard((packet(WEB, stamp), packet(WEB, stamp))), drained=True)
    assert made.trouble == "no space left on device"
    assert made.tally.tallied().unrecorded == {("web", "disk"): 10}
    kept.room = 1 << 30
    made.step(Heard(()), drained=True, last=True)
    (said,) = kept.of(Unrecorded)
    assert isinstance(said, Unrecorded)
    assert (said.tenant, said.container, said.cause, said.count) == ("web", "web", "disk", 10)
    assert made.trouble == ""


def test_a_loss_that_could_not_be_said_is_said_later_and_counted_once() -> None:
    kept, feed = Recorded(room=0), Feed()
    made = recorder(kept, feed)
    made.step(Heard((), lost=7), drained=True, last=True)
    kept.room = 1 << 30
    made.step(Heard((), lost=1), drained=True, last=True)
    assert [event.count for event in kept.of(Unrecorded) if isinstance(event, Unrecorded)] == [8]
    assert made.tally.tallied().lost("queue") == 8


def test_what_another_program_logs_is_counted_and_not_recorded() -> None:
    kept, feed = Recorded(), Feed()
    made = recorder(kept, feed)
    made.step(Heard((msgspec.structs.replace(packet(WEB, 1.0), prefix="IN=eth0"),)), drained=True)
    assert kept.events == []
    assert made.tally.tallied().foreign == 1


def test_word_that_nobody_heard_for_long_is_read_from_the_record() -> None:
    kept, feed = Recorded(), Feed(most=100)
    made = recorder(kept, feed, NEXT)
    for _ in range(80):
        feed.change((), [WEB])
        feed.change([WEB], ())
    made.step(Heard(()), drained=True)
    made.step(Heard((packet(NEXT, now().wall),)), drained=True)
    (attempt,) = kept.events
    assert isinstance(attempt, Attempt)
    assert attempt.container == "next"


def test_who_looks_at_the_node_is_told_what_the_record_lacks() -> None:
    kept, feed = Recorded(room=0), Feed()
    made = recorder(kept, feed, WEB)
    auditor = Auditor(made, Audit)
    assert auditor.notes("nftables") == ()
    assert ["iptables" in line for line in auditor.notes("iptables (nft)")] == [True]
    made.step(Heard((packet(WEB, now().wall),), lost=4), drained=True)
    full, missed = auditor.notes("nftables")
    assert "no space left on device" in full
    assert missed.startswith("5 attempts were not recorded one by one")


class Rules:
    """What rules count of what `WEB` sends and is denied, by the version of its policy or by its address, with a
    recorder beside them; `seconds` pass where a test says so."""

    def __init__(self, *, by_address: bool = False) -> None:
        self.counted, self.seconds = 0, 0.0
        self.kept = Recorded()
        self.recorder = Recorder(Feed(), self.kept, lambda: [WEB], self.denied, self.clock)
        self._by_address = by_address
        self.recorder.begin("1.0")

    def clock(self) -> Moment:
        return Moment(1_700_000_000 + self.seconds, self.seconds)

    def denied(self) -> Denied:
        """Of what nothing was counted there is no element."""
        if self._by_address:
            return Denied({}, {}, {}, {str(WEB.address4): self.counted} if self.counted else {})
        return Denied({}, {WEB.generation & STEM: self.counted} if self.counted else {}, {})

    def tell(self, packets: int = 0, *others: Logged, last: bool = False) -> None:
        """So many of the packets that were denied are logged, and these; the recorder has read all that was."""
        logged = (packet(WEB, self.clock().wall),) * packets
        self.recorder.step(Heard((*logged, *others)), drained=True, last=last)

    @property
    def said(self) -> list[Unrecorded]:
        """What is on record of what was not recorded one by one."""
        return [event for event in self.kept.events if isinstance(event, Unrecorded)]


def test_what_rules_counted_and_nobody_was_told_is_said_while_it_goes_on() -> None:
    """Ten of a hundred are told each second; the rest is said within a quarter of a minute, and all of it in time."""
    rules = Rules()
    for second in range(60):
        rules.seconds = float(second)
        rules.counted += 100
        rules.tell(10)
        if second == 15:
            assert rules.said != []
    rules.tell(last=True)
    assert {(event.container, event.cause) for event in rules.said} == {("web", "rate")}
    assert sum(event.count for event in rules.said) == 60 * 90
    assert rules.recorder.tally.tallied().unrecorded == {("web", "rate"): 60 * 90}


def test_what_was_counted_and_not_told_is_said_in_the_silence_after_it() -> None:
    rules = Rules()
    rules.counted = 50_000
    rules.tell(10)
    for half_second in range(2 * 15):
        rules.seconds = half_second / 2
        rules.tell()
    assert [event.count for event in rules.said] == [49_990]


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
    assert sum(event.count for event in rules.said) == 90 + 190


def test_what_rules_counted_by_address_is_said_of_whoever_has_it() -> None:
    """A hundred are denied each second and ten told. What the pins deny is no part of what is counted so."""
    rules = Rules(by_address=True)
    for second in range(60):
        rules.seconds = float(second)
        rules.counted += 100
        by_rules = packet(WEB, rules.clock().wall)
        by_pins = msgspec.structs.replace(by_rules, prefix=by_rules.prefix.replace("FWD", "PIN"))
        rules.tell(10, by_pins)
    rules.tell(last=True)
    assert {(event.container, event.cause) for event in rules.said} == {("web", "rate")}
    assert sum(event.count for event in rules.said) == 60 * 90
