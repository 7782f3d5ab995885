"""A flush of legacy tables is noticed without an event, and asking makes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.adapters import process
from cellwall.adapters.iptables.legacy_tables import LegacyTables

from .conftest import Namespace

pytestmark = pytest.mark.root
NAMES = Path("/proc/thread-self/net/ip_tables_names")


@pytest.fixture
def tables(node: Namespace) -> Iterator[LegacyTables]:
    asked = LegacyTables()
    yield asked
    asked.close()


def test_asking_makes_no_table(tables: LegacyTables) -> None:
    assert not tables.changed()
    assert not NAMES.exists() or NAMES.read_text() == ""


@pytest.mark.parametrize(
    ("program", "table"),
    [
        ("iptables-legacy", "filter"),
        ("iptables-legacy", "nat"),
        ("iptables-legacy", "mangle"),
        ("ip6tables-legacy", "filter"),
        ("ip6tables-legacy", "raw"),
    ],
)
def test_a_rule_that_comes_and_a_flush_are_noticed_once(tables: LegacyTables, program: str, table: str) -> None:
    process.run([program, "-t", table, "-A", "OUTPUT", "-j", "ACCEPT"])
    assert tables.changed()
    assert not tables.changed()
    process.run([program, "-t", table, "-F"])
    assert tables.changed()
    assert not tables.changed()


def test_packets_that_rules_count_change_nothing(tables: LegacyTables, node: Namespace) -> None:
    process.run(["iptables-legacy", "-A", "OUTPUT", "-j", "ACCEPT"])
    process.run(["ip", "link", "set", "lo", "up"])
    assert tables.changed()
    with node.socket(2, 2) as sock:
        sock.sendto(b"x", ("127.0.0.1", 9))
    assert not tables.changed()
