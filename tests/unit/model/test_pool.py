"""How many sandboxes stand ready, and who they are until somebody claims one."""

import msgspec
import pytest

from cellwall.errors import InvalidSpec
from cellwall.model.identifiers import parse_container_id
from cellwall.model.pool import PoolSize, pooled_key, room, was_pooled
from scene import endpoint


def test_without_a_size_none_stands_ready_however_many_are_asked_for() -> None:
    assert PoolSize(0, 50).target(100) == 0


def test_as_many_more_stand_ready_as_were_asked_for_of_late_up_to_the_burst() -> None:
    assert [PoolSize(8, 20).target(recent) for recent in (0, 5, 20, 300)] == [8, 13, 28, 28]


def test_half_of_what_is_free_is_left_to_who_asks_for_more_than_a_ready_one() -> None:
    assert [room(free, 10) for free in (100, 20, 9, 1, 0, -3)] == [10, 10, 4, 0, 0, 0]
    assert [room(20 - ready, 2, ready) for ready in (0, 4, 8, 9, 10, 15, 20)] == [2, 2, 2, 1, 0, 0, 0]


def test_no_caller_can_name_one_that_is_nobodys() -> None:
    with pytest.raises(InvalidSpec):
        parse_container_id(pooled_key(7).container_id)


def test_the_oldest_comes_first_by_its_key() -> None:
    keys = [pooled_key(number) for number in (0, 9, 10, 255, 256, 70000)]
    assert sorted(keys) == keys and all(key.pooled for key in keys)


def test_a_claimed_one_is_known_by_the_name_of_its_namespace() -> None:
    made = msgspec.structs.replace(endpoint("web", 2), netns="/run/cellwall/netns/~00000001", owns_netns=True)
    assert was_pooled(made)
    assert not was_pooled(msgspec.structs.replace(made, netns="/run/cellwall/netns/web"))
    assert not was_pooled(msgspec.structs.replace(made, key=pooled_key(1)))
