"""What passes in a second, from two reports, and how it is shown."""

from io import StringIO

import msgspec
import pytest
from rich.console import Console

from cellwall.cli.live import drawn
from cellwall.cli.rates import HEAD, Order, Rate, by_tenant, cells, ordered, rate_table, rates, scaled, shown
from cellwall.model.endpoint import EndpointKey
from cellwall.model.figures import EndpointTraffic, Traffic, TrafficReport


def one(
    name: str, *figures: int, tenant: str = "acme", connections: int | None = 0, denied: int | None = None
) -> EndpointTraffic:
    return EndpointTraffic(EndpointKey(name), tenant, Traffic(*figures), connections, denied)


def between(before: list[EndpointTraffic], after: list[EndpointTraffic], seconds: float = 2.0) -> dict[str, Rate]:
    found = rates(TrafficReport(100.0, tuple(before)), TrafficReport(100.0 + seconds, tuple(after)))
    return {row.container: row for row in found}


def test_a_rate_is_what_passed_since_the_look_before() -> None:
    found = between([one("a", 100, 10, 200, 3, denied=4)], [one("a", 300, 14, 1200, 4, connections=3, denied=10)])
    assert found["a"] == Rate("acme", "a", "eth0", 100.0, 2.0, 500.0, 0.5, 3, 3.0)
    (row,) = found.values()
    assert between([one("a", 0, 0, 0, 0)], [one("a", 5, 5, 5, 5)], seconds=0.01)["a"].sent_bytes == pytest.approx(500)
    assert row.interface == "eth0"


def test_what_is_new_passed_it_all_since_then_and_what_is_gone_is_not_told() -> None:
    found = between([one("gone", 5, 5, 5, 5)], [one("new", 20, 2, 0, 0)])
    assert found.keys() == {"new"} and found["new"].sent_bytes == 10.0


def test_another_attachment_of_the_same_name_is_new() -> None:
    found = between([one("a", 1000, 100, 0, 0, denied=50)], [one("a", 20, 2, 0, 0, denied=2)])
    assert (found["a"].sent_bytes, found["a"].denied) == (10.0, 1.0)


def test_two_reports_of_one_moment_are_no_division_by_nothing() -> None:
    assert between([one("a", 5, 5, 5, 5)], [one("a", 5, 5, 5, 5)], seconds=0.0)["a"].sent_bytes == 0.0


def test_tenants_are_sums_and_what_nobody_can_tell_of_one_nobody_can_of_the_sum() -> None:
    rows = between(
        [],
        [
            one("a", 2, 4, 6, 8, connections=1, denied=2),
            one("b", 20, 40, 60, 80, connections=2, denied=4),
            one("c", 6, 6, 6, 6, tenant="", connections=None),
            one("d", 6, 6, 6, 6, tenant="", connections=1, denied=2),
        ],
    ).values()
    acme, none = by_tenant(rows)
    assert acme == Rate("acme", "", "", 11.0, 22.0, 33.0, 44.0, 3, 3.0)
    assert (none.tenant, none.connections, none.denied) == ("", None, None)
    by_name = shown(TrafficReport(0.0, ()), TrafficReport(1.0, (one("b", 1, 1, 1, 1), one("a", 1, 1, 1, 1))), "name",
                    tenants=False)  # fmt: skip
    assert [row.container for row in by_name] == ["a", "b"]
    of_tenants = shown(TrafficReport(0.0, ()), TrafficReport(1.0, (one("b", 1, 1, 1, 1),)), "name", tenants=True)
    assert [(row.tenant, row.container) for row in of_tenants] == [("acme", "")]


def test_the_busiest_are_first_by_what_is_asked_for() -> None:
    rows = between(
        [],
        [
            one("few-large", 900, 1, 0, 0, connections=5, denied=1),
            one("many-small", 90, 50, 0, 0, connections=1, denied=9),
            one("hears", 0, 0, 500, 20),
            one("b", 0, 0, 0, 0),
            one("a", 0, 0, 0, 0),
            one("0-untold", 0, 0, 0, 0, connections=None),
        ],
    ).values()
    for order, first in (("bytes", ["few-large", "hears"]), ("packets", ["many-small", "hears"]),
                         ("connections", ["few-large", "many-small"]), ("denied", ["many-small", "few-large"]),
                         ("name", ["0-untold", "a"])):  # fmt: skip
        found = [row.container for row in ordered(rows, order)]  # type: ignore[arg-type]
        assert found[:2] == first
        assert found.index("0-untold") < found.index("a") < found.index("b")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (7, "7"), (99.9, "99.9"), (99.96, "100"), (999, "999"), (999.6, "1k"), (12345, "12.3k"),
     (456_000_000, "456M"), (7.89e9, "7.89G"), (2e12, "2T")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert scaled(value) == text


def test_a_table_names_what_has_no_name() -> None:
    row = Rate("", "", "", 0, 0, 0, 0, None, None)
    assert cells(row)[:2] == ("-", "*") and cells(row)[-2:] == ("-", "-")
    other = Rate("acme", "web", "net1", 1500, 2, 0, 0, 3, 4)
    head, line, _ = rate_table([other, row]).splitlines()
    assert head.split()[0] == "TENANT"
    assert line.split() == ["acme", "web/net1", "1.5kB", "2", "0B", "0", "3", "4"]


NAMES = ("tenant-of-some-length-and-more", "0123456789abcdef" * 4)
BUSY = Rate(*NAMES, "eth0", 1.23e8, 4560, 7.89e7, 1e6, 4096, 98_700)


def screen(width: int, order: Order = "bytes", rows: tuple[Rate, ...] = (BUSY,)) -> list[str]:
    console = Console(width=width, height=24, file=StringIO())
    console.print(drawn(list(rows), order, most=20, width=width))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_figures_are_whole_on_a_usual_terminal_and_names_give_way() -> None:
    head, row, _ = screen(80)
    assert [name for name in HEAD if name not in head] == []
    tenant, container, *figures = row.split()
    assert tuple(figures) == cells(BUSY)[2:]
    for cut, name in ((tenant, NAMES[0]), (container, NAMES[1])):
        assert cut.endswith("\u2026") and name.startswith(cut[:-1]) and len(cut) >= 8


def test_a_name_that_is_short_leaves_its_room_to_the_other() -> None:
    _, row, _ = screen(110, rows=(msgspec.structs.replace(BUSY, tenant="acme"),))
    assert row.split()[0] == "acme" and len(row.split()[1]) > 30
    _, row, _ = screen(110, rows=(msgspec.structs.replace(BUSY, container="web"),))
    assert row.split()[:2] == [NAMES[0], "web"]
    _, row, _ = screen(200)
    assert row.split()[:2] == list(NAMES)


@pytest.mark.parametrize("width", [60, 40, 30])
@pytest.mark.parametrize(("order", "column"), [("bytes", 2), ("packets", 3), ("connections", 6), ("denied", 7)])
def test_on_a_narrow_terminal_what_it_is_sorted_by_is_there(width: int, order: Order, column: int) -> None:
    head, row, *_ = screen(width, order)
    assert HEAD[column] in head and cells(BUSY)[column] in row.split()
    assert row.split()[0].startswith("tenant-")
    assert all(len(line) <= width for line in screen(width, order))


@pytest.mark.parametrize("width", [1, 5, 12])
def test_on_one_that_is_hardly_any_something_is_shown(width: int) -> None:
    assert any(line.strip() for line in screen(width))
