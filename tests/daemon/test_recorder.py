"""One step from logged packets to events on record: whose they are, what is said of what is missing, and what a disk
that is full costs."""

import msgspec
import pytest

from cellwall.adapters.events.nflog import Heard, Logged
from cellwall.audit.events import Attempt, Began, Unrecorded
from cellwall.audit.holders import Moment
from cellwall.daemon.audit.recorder import Feed, Recorder, now
from cellwall.daemon.audit.thread import Auditor
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Audit
from daemon.logged import NEXT, WEB, Recorded, packet


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
    assert made.tally.tallied().recorded == {("acme", "FWD", "the floor", "deny"): 1}


def test_a_packet_of_who_has_gone_meanwhile_is_not_the_next_one_s() -> None:
    kept, feed = Recorded(), Feed()
    made = recorder(kept, feed)
    feed.change((), [WEB])
    sent = now().wall
    feed.change([WEB], ())
    feed.change((), [NEXT])
    made.step(Heard((packet(WEB, sent), packet(NEXT, now().wall))), drained=True)
    assert kept.whose == ["web", "next"]


def test_what_the_queue_lost_is_said_by_an_event_and_not_for_each() -> None:
    kept, feed = Recorded(), Feed()
    made = recorder(kept, feed)
    for _ in range(50):
        made.step(Heard((), lost=2), drained=True)
    made.step(Heard(()), drained=True, last=True)
    said = kept.unrecorded
    assert len(said) <= 3
    assert sum(event.count for event in said) == 100
    assert {event.cause for event in said} == {"queue"}
    assert made.tally.tallied().lost("queue") == 100


def test_what_a_full_disk_costs_is_counted_by_tenant_and_said_once_there_is_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept, feed = Recorded(room=1), Feed()
    made = recorder(kept, feed, WEB)
    made.begin("1.0")
    stamp = now().wall
    for _ in range(5):
        made.step(Heard((packet(WEB, stamp), packet(WEB, stamp))), drained=True)
    assert made.trouble == "no space left on device"
    assert made.tally.tallied().unrecorded == {("acme", "disk"): 10}
    kept.room = 1 << 30
    made.step(Heard(()), drained=True, last=True)
    (said,) = kept.unrecorded
    assert (said.tenant, said.container, said.cause, said.count) == ("acme", "web", "disk", 10)
    assert made.trouble == ""
    made.step(Heard((packet(WEB, stamp),)), drained=True)
    assert caplog.messages == ["events are not recorded: no space left on device", "events are recorded again"]


def test_a_beginning_that_found_no_room_is_said_ahead_of_what_follows_once_there_is_some() -> None:
    """Without it the gap before it would read as a time in which nobody tried anything."""
    kept, feed = Recorded(room=0), Feed()
    made = recorder(kept, feed, WEB)
    made.begin("1.0")
    stamp = now().wall
    for _ in range(3):
        made.step(Heard((packet(WEB, stamp),)), drained=True)
    kept.room = 1 << 30
    made.step(Heard((packet(WEB, stamp),)), drained=True)
    made.step(Heard(()), drained=True, last=True)
    assert [type(event) for event in kept.events] == [Began, Attempt, Unrecorded]


def test_a_beginning_that_found_no_room_waits_for_no_attempt() -> None:
    kept, feed = Recorded(room=0), Feed()
    made = recorder(kept, feed, WEB)
    made.begin("1.0")
    made.step(Heard(()), drained=True)
    kept.room = 1 << 30
    made.step(Heard(()), drained=True, last=True)
    assert [type(event) for event in kept.events] == [Began]
    assert made.trouble == ""


def test_a_loss_that_could_not_be_said_is_said_later_and_counted_once() -> None:
    kept, feed = Recorded(room=0), Feed()
    made = recorder(kept, feed)
    made.step(Heard((), lost=7), drained=True, last=True)
    kept.room = 1 << 30
    made.step(Heard((), lost=1), drained=True, last=True)
    assert [event.count for event in kept.unrecorded] == [8]
    assert made.tally.tallied().lost("queue") == 8


def test_what_another_program_logs_is_counted_and_not_recorded() -> None:
    kept, feed = Recorded(), Feed()
    made = recorder(kept, feed)
    foreign = msgspec.structs.replace(packet(WEB, 1.0), prefix="IN=eth0")
    made.step(Heard((foreign, packet(WEB, 1.0), foreign)), drained=True)
    assert kept.whose == [""]
    assert made.tally.tallied().foreign == 2


def test_word_that_nobody_heard_for_long_is_read_from_the_record_once() -> None:
    """What is read so is older than what is told next."""
    kept, feed, reads = Recorded(), Feed(most=100), 0

    def refill() -> list[Endpoint]:
        nonlocal reads
        reads += 1
        return [NEXT]

    made = Recorder(feed, kept, refill)
    for _ in range(80):
        feed.change((), [WEB])
        feed.change([WEB], ())
    made.step(Heard(()), drained=True)
    made.step(Heard((packet(NEXT, now().wall),)), drained=True)
    assert kept.whose == ["next"]
    assert reads == 1


def test_who_is_not_among_all_that_there_are_is_gone() -> None:
    kept, feed = Recorded(), Feed()
    made = recorder(kept, feed, WEB)
    made.begin("1.0")
    feed.fill([NEXT])
    made.step(Heard((packet(NEXT, now().wall),)), drained=True)
    assert kept.whose == ["next"]


class Node:
    """A node of which `WEB` has been there for a while, by clocks that are a test's: `seconds` have passed, and
    somebody has `set` the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.set = 0.0, 0.0
        self.kept, self._feed = Recorded(), Feed()
        monkeypatch.setattr("cellwall.daemon.audit.recorder.now", self.clock)
        self._recorder = Recorder(self._feed, self.kept, lambda: [WEB], clock=self.clock)
        self._recorder.begin("1.0")
        for _ in range(4):
            self.tell()
            self.seconds += 1.0

    def clock(self) -> Moment:
        return Moment(1_700_000_000 + self.seconds + self.set, self.seconds)

    def hand_over(self) -> None:
        """What is `WEB`'s is `NEXT`'s from now on."""
        self._feed.change([WEB], ())
        self._feed.change((), [NEXT])

    def tell(self, *heard: Logged, drained: bool = True) -> list[str]:
        """Whose the packets are that were recorded by now."""
        self._recorder.step(Heard(heard), drained=drained)
        return self.kept.whose


def test_a_packet_without_a_time_is_somebodys_once_no_packet_of_before_can_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node(monkeypatch)
    assert node.tell(packet(WEB, 0.0)) == ["web"]
    node.hand_over()
    assert node.tell(packet(WEB, 0.0)) == ["web", ""]
    node.seconds += 1.0
    assert node.tell(packet(WEB, 0.0)) == ["web", "", ""]
    node.seconds += 3.0
    node.tell()
    assert node.tell(packet(WEB, 0.0)) == ["web", "", "", "next"]


def test_as_long_as_more_is_to_be_read_it_may_be_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch)
    node.hand_over()
    for _ in range(4):
        node.seconds += 2.0
        assert set(node.tell(packet(WEB, 0.0), drained=False)) == {""}


def test_a_clock_that_was_set_and_set_back_gives_no_packet_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch)
    node.hand_over()
    node.tell()
    node.set = -3600.0
    node.tell()
    sent = packet(NEXT, node.clock().wall)
    node.set = 0.0
    assert node.tell(sent) == [""]


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
