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


def test_what_rules_counted_and_nobody_was_told_is_said_while_it_goes_on() -> None:
    """Ten of a hundred are told each second; the rest is said within a quarter of a minute, and all of it in time."""
    kept, feed, counted, seconds = Recorded(), Feed(), 0, 0.0

    def clock() -> Moment:
        return Moment(1_700_000_000 + seconds, seconds)

    def denied() -> Denied:
        return Denied({}, {WEB.generation & STEM: counted}, {})

    made = Recorder(feed, kept, lambda: [WEB], denied, clock)
    made.begin("1.0")
    for second in range(60):
        seconds = float(second)
        counted += 100
        made.step(Heard((packet(WEB, clock().wall),) * 10), drained=True)
        if second == 15:
            assert kept.of(Unrecorded) != []
    made.step(Heard(()), drained=True, last=True)
    said = [event for event in kept.events if isinstance(event, Unrecorded)]
    assert {(event.container, event.cause) for event in said} == {("web", "rate")}
    assert sum(event.count for event in said) == 60 * 90
    assert made.tally.tallied().unrecorded == {("web", "rate"): 60 * 90}


def test_what_was_counted_and_not_told_is_said_in_the_silence_after_it() -> None:
    kept, feed, counted, seconds = Recorded(), Feed(), 0, 0.0

    def clock() -> Moment:
        return Moment(1_700_000_000 + seconds, seconds)

    def denied() -> Denied:
        return Denied({}, {WEB.generation & STEM: counted}, {})

    made = Recorder(feed, kept, lambda: [WEB], denied, clock)
    made.begin("1.0")
    counted = 50_000
    made.step(Heard((packet(WEB, clock().wall),) * 10), drained=True)
    for half_second in range(2 * 15):
        seconds = half_second / 2
        made.step(Heard(()), drained=True)
    assert [event.count for event in kept.of(Unrecorded) if isinstance(event, Unrecorded)] == [49_990]


def test_what_rules_forget_in_a_silence_hides_nothing_of_what_comes_after_it() -> None:
    """Of whom nothing was denied for a while rules begin to count anew, and before anybody looks it is more again."""
    kept, feed, counted, seconds = Recorded(), Feed(), 0, 0.0

    def clock() -> Moment:
        return Moment(1_700_000_000 + seconds, seconds)

    def denied() -> Denied:
        return Denied({}, {WEB.generation & STEM: counted} if counted else {}, {})

    made = Recorder(feed, kept, lambda: [WEB], denied, clock)
    made.begin("1.0")
    counted = 100
    made.step(Heard((packet(WEB, clock().wall),) * 10), drained=True)
    for second in range(1, 300):
        seconds = float(second)
        counted = counted if second < 120 else 0
        made.step(Heard(()), drained=True)
    counted = 200
    made.step(Heard((packet(WEB, clock().wall),) * 10), drained=True)
    made.step(Heard(()), drained=True, last=True)
    said = [event for event in kept.events if isinstance(event, Unrecorded)]
    assert sum(event.count for event in said) == 90 + 190


def test_what_rules_counted_by_address_is_said_of_whoever_has_it() -> None:
    """A hundred are denied each second and ten told. What the pins deny is no part of what is counted so."""
    kept, feed, counted, seconds = Recorded(), Feed(), 0, 0.0
    address = str(WEB.address4)

    def clock() -> Moment:
        return Moment(1_700_000_000 + seconds, seconds)

    def denied() -> Denied:
        return Denied({}, {}, {}, {address: counted})

    made = Recorder(feed, kept, lambda: [WEB], denied, clock)
    made.begin("1.0")
    for second in range(60):
        seconds = float(second)
        counted += 100
        pins = packet(WEB, clock().wall)
        pins = msgspec.structs.replace(pins, prefix=pins.prefix.replace("FWD", "PIN"))
        made.step(Heard((*(packet(WEB, clock().wall),) * 10, pins)), drained=True)
    made.step(Heard(()), drained=True, last=True)
    said = [event for event in kept.events if isinstance(event, Unrecorded)]
    assert {(event.container, event.cause) for event in said} == {("web", "rate")}
    assert sum(event.count for event in said) == 60 * 90
