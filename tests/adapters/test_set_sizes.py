"""A flush of sets is noticed without an event, and how bad it can be is told from whose they are."""

from collections.abc import Iterator

import pytest

from cellwall.adapters import process
from cellwall.adapters.iptables.set_sizes import SetSizes
from cellwall.adapters.news.alarms import Alarm

from .conftest import Namespace

pytestmark = pytest.mark.root

SETS = b"""\
create b9floor4 hash:net family inet
add b9floor4 10.0.0.0/8
create b9pin4 bitmap:ip,mac range 192.168.0.0/20
add b9pin4 192.168.0.2,02:00:00:00:00:02
create b9version4 hash:ip family inet skbinfo
add b9version4 192.168.0.2 skbmark 0x7/0xffffffff
create theirs hash:ip family inet
add theirs 9.9.9.9
"""


@pytest.fixture
def sizes(node: Namespace) -> Iterator[SetSizes]:
    process.run(["ipset", "restore"], input=SETS)
    with SetSizes() as sizes:
        yield sizes


@pytest.mark.parametrize(
    ("command", "alarm"),
    [
        ("ipset flush", Alarm.DAMAGED),
        ("ipset flush b9floor4", Alarm.DAMAGED),
        ("ipset destroy b9floor4", Alarm.DAMAGED),
        ("ipset del b9floor4 10.0.0.0/8", Alarm.DAMAGED),
        ("ipset flush b9pin4", Alarm.CHANGED),
        ("ipset add b9version4 192.168.0.3", Alarm.CHANGED),
        ("ipset destroy b9version4", Alarm.CHANGED),
        ("ipset create b9born4 hash:ip", Alarm.CHANGED),
        ("ipset flush theirs", Alarm.NOTHING),
        ("ipset list", Alarm.NOTHING),
    ],
)
def test_how_bad_a_change_is(sizes: SetSizes, command: str, alarm: Alarm) -> None:
    process.run(command.split())
    assert sizes.changed() is alarm
    assert sizes.changed() is Alarm.NOTHING
