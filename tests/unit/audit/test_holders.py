"""Whose a packet is: also of one that is read late, when its address is another's, or a clock was set."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.audit.holders import Holder, Holders, Moment, holder_of
from cellwall.model.endpoint import Endpoint
from cellwall.model.pool import pooled_key
from cellwall.model.versions import first_version
from scene import NODE_BIT, endpoint

WEB, JOB = endpoint("web", 2), endpoint("job", 3)
LATER = msgspec.structs.replace(endpoint("next", 2), host_index=200, generation=first_version(5000, NODE_BIT))
"""The next holder of web's addresses: its link is another one, and its policy versions are."""


class Clock:
    """Steady time, and a wall clock that somebody may set."""

    def __init__(self) -> None:
        self.steady, self.set_by = 1000.0, 1_700_000_000.0

    def now(self) -> Moment:
        self.steady += 0.001
        return Moment(self.steady + self.set_by, self.steady)


def asked(holders: Holders, one: Endpoint, now: Moment, stamp: float | None = None) -> set[Holder | None]:
    holders.notice(now)
    sent = now.wall if stamp is None else stamp
    return {holders.of_address(str(address), sent) for address in (one.address4, one.address6)}


def test_a_port_and_both_addresses_are_their_holder_s() -> None:
    holders, clock = Holders(), Clock()
    holders.change(clock.now(), (), [WEB, JOB])
    now = clock.now()
    assert asked(holders, WEB, now) == {holder_of(WEB)}
    assert holders.of_port(JOB.host_index, now.wall) == holder_of(JOB)
    assert holders.of_port(7, now.wall) is None
    assert holders.of_address("192.168.0.9", now.wall) is None


def test_what_stands_ready_is_nobody_s_before_its_claim_and_no_container_s_of_that_name() -> None:
    ready = msgspec.structs.replace(WEB, key=pooled_key(7), tenant="")
    holders, clock = Holders(), Clock()
    holders.fill(clock.now(), [ready])
    clock.steady += 10.0
    sent = clock.now().wall
    holders.change(clock.now(), [ready], [WEB])
    now = clock.now()
    assert holders.of_port(WEB.host_index, now.wall) == holder_of(WEB)
    before = holders.of_port(WEB.host_index, sent)
    assert before is not None and (before.container, before.interface, before.tenant) == ("", "", "")
    assert holders.of_port(WEB.host_index, 0.0) == holder_of(WEB), "in a ready one nobody sends but by the node's root"


def test_a_packet_that_is_read_late_is_its_sender_s_and_not_the_next_holder_s() -> None:
    holders, clock = Holders(), Clock()
    holders.change(clock.now(), (), [WEB])
    clock.steady += 10.0  # which sets no clock
    sent = clock.now().wall
    holders.change(clock.now(), [WEB], ())
    between = clock.now().wall
    holders.change(clock.now(), (), [LATER])
    now = clock.now()
    assert asked(holders, WEB, now, sent) == {holder_of(WEB)}
    assert asked(holders, WEB, now, between) == {None}
    assert asked(holders, WEB, now) == {holder_of(LATER)}


def test_a_packet_without_a_time_is_nobody_s_while_it_could_be_either_s() -> None:
    holders, clock = Holders(), Clock()
    holders.change(clock.now(), (), [WEB])
    holders.change(clock.now(), [WEB], ())
    holders.change(clock.now(), (), [LATER])
    now = clock.now()
    assert asked(holders, WEB, now, 0.0) == {None}
    holders.settle(now)
    assert asked(holders, WEB, clock.now(), 0.0) == {holder_of(LATER)}


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("by", [3600.0, 0.05])
@pytest.mark.parametrize("when", ["sent", "detached", "attached"])
def test_a_clock_that_was_set_gives_no_packet_to_another(when: str, by: float, settled: bool) -> None:
    holders, clock = Holders(), Clock()
    holders.change(clock.now(), (), [WEB])
    if settled:
        holders.settle(clock.now())
    sent = clock.now().wall
    for step, before, after in (("sent", (), ()), ("detached", [WEB], ()), ("attached", (), [LATER])):
        holders.change(clock.now(), before, after)
        if step == when:
            clock.set_by -= by
    assert asked(holders, WEB, clock.now(), sent) == {None}


def test_times_tell_again_once_all_is_read_that_was_logged_before_a_clock_was_set() -> None:
    holders, clock = Holders(), Clock()
    holders.change(clock.now(), (), [WEB])
    clock.set_by -= 3600
    holders.notice(clock.now())
    holders.settle(clock.now())
    sent = clock.now().wall
    holders.change(clock.now(), [WEB], ())
    holders.change(clock.now(), (), [LATER])
    assert asked(holders, WEB, clock.now(), sent) == {holder_of(WEB)}


def test_of_many_policies_in_a_row_the_latest_is_known() -> None:
    holders, clock, one = Holders(), Clock(), WEB
    holders.change(clock.now(), (), [WEB])
    for _ in range(40):
        before, one = one, msgspec.structs.replace(one, generation=one.generation + 1)
        holders.change(clock.now(), [before], [one])
    assert asked(holders, WEB, clock.now()) == {holder_of(one)}


def test_who_went_and_came_again_is_not_forgotten_with_who_is_gone() -> None:
    holders, clock = Holders(), Clock()
    holders.change(clock.now(), (), [WEB])
    holders.fill(clock.now(), ())
    holders.fill(clock.now(), [WEB])
    known = len(holders)
    clock.steady += 100
    holders.settle(clock.now())
    assert holders.of_port(WEB.host_index, clock.now().wall) == holder_of(WEB)
    assert len(holders) == known == 5, "two addresses, a MAC, a port and a policy version"


def test_a_packet_belongs_to_the_policy_that_judged_it() -> None:
    holders, clock = Holders(), Clock()
    after = msgspec.structs.replace(WEB, generation=WEB.generation + 1)
    holders.change(clock.now(), (), [WEB])
    sent = clock.now().wall
    holders.change(clock.now(), [WEB], [after])
    now = clock.now()
    assert asked(holders, WEB, now, sent) == {holder_of(WEB)}
    assert asked(holders, WEB, now) == {holder_of(after)}
    assert asked(holders, WEB, now, 0.0) == {holder_of(after)}, "one container, so it is known whose"


def test_what_a_link_sends_after_its_detach_is_its_former_holder_s() -> None:
    holders, clock = Holders(), Clock()
    holders.change(clock.now(), (), [WEB])
    holders.change(clock.now(), [WEB], ())
    now = clock.now()
    assert holders.of_port(WEB.host_index, now.wall) == holder_of(WEB)
    assert asked(holders, WEB, now) == {None}
    for later, holder in ((59.0, holder_of(WEB)), (2.0, None)):  # the link goes with one of the next operations
        clock.steady += later
        holders.settle(clock.now())
        assert holders.of_port(WEB.host_index, clock.now().wall) == holder


def test_a_policy_version_is_its_endpoint_s_also_after_that_is_gone() -> None:
    holders, clock = Holders(), Clock()
    holders.change(clock.now(), (), [WEB])
    holders.change(clock.now(), [WEB], ())
    holders.change(clock.now(), (), [LATER])
    now = clock.now()
    assert holders.of_version(WEB.generation + 7, now.wall) == msgspec.structs.replace(
        holder_of(WEB), generation=WEB.generation + 7
    )
    assert holders.of_version(LATER.generation, now.wall) == holder_of(LATER)
    assert holders.of_version(1, now.wall) is None


def test_what_is_known_after_a_restart_is_what_is_on_record() -> None:
    holders, clock = Holders(), Clock()
    holders.change(clock.now(), (), [WEB])
    holders.fill(clock.now(), [JOB, LATER])
    now = clock.now()
    assert asked(holders, WEB, now) == {holder_of(LATER)}
    assert asked(holders, JOB, now) == {holder_of(JOB)}
    holders.fill(clock.now(), [JOB])
    now = clock.now()
    assert asked(holders, WEB, now) == {None}


def test_nothing_is_kept_of_who_is_gone() -> None:
    holders, clock = Holders(), Clock()
    for number in range(500):
        version = first_version(6000 + number, NODE_BIT)
        one = msgspec.structs.replace(
            endpoint(f"c{number}", 2 + number % 100, generation=version), host_index=1000 + number
        )
        holders.change(clock.now(), (), [one])
        for _ in range(40):
            another = msgspec.structs.replace(one, generation=one.generation + 1)
            holders.change(clock.now(), [one], [another])
            one = another
        holders.change(clock.now(), [one], ())
    holders.change(clock.now(), (), [JOB])
    holders.fill(clock.now(), ())
    clock.steady += 100
    holders.settle(clock.now())
    assert len(holders) == 0


class _Told(msgspec.Struct, frozen=True):
    """A packet that was sent, when it was stamped, and by whom."""

    stamp: float
    sender: Holder
    read: int


_steps = st.lists(
    st.sampled_from(["attach", "detach", "policy", "send", "send", "read", "set", "settle"]), min_size=5, max_size=120
)


@given(_steps, st.integers(0, 30))
def test_no_packet_is_another_container_s_under_churn(steps: list[str], lag: int) -> None:
    """One address, holder after holder, a queue of packets that is read late."""
    holders, clock = Holders(), Clock()
    present: Endpoint | None = None
    queue: list[_Told] = []
    was_set = False
    for number, step in enumerate(steps):
        at = clock.now()
        holders.notice(at)
        if step == "attach" and present is None:
            present = msgspec.structs.replace(endpoint(f"c{number}", 2), host_index=1000 + number)
            holders.change(at, (), [present])
        elif step == "detach" and present is not None:
            holders.change(at, [present], ())
            present = None
        elif step == "policy" and present is not None:
            after = msgspec.structs.replace(present, generation=present.generation + 1)
            holders.change(at, [present], [after])
            present = after
        elif step == "send" and present is not None:
            queue.append(_Told(clock.now().wall, holder_of(present), number + lag))
        elif step == "set":
            clock.set_by += -7.0 if number % 2 else 7.0
            was_set = True
        elif step == "settle" and not queue:
            holders.settle(at)
        for sent in _due(queue, number):
            found = holders.of_address("192.168.0.2", sent.stamp)
            assert found is None or found.is_same(sent.sender), (step, number)
            assert was_set or found == sent.sender


def _due(queue: list[_Told], number: int) -> Iterator[_Told]:
    while queue and queue[0].read <= number:
        yield queue.pop(0)
