"""What all tests share: root, and worlds. See `world` for what one is."""

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from cellwall.api import Wall
from cellwall.lab import Lab
from engine.steps import Steps
from world import World, hold_walls_in, open_world

# No test of ours is timed: an example that a busy machine takes long for is no failure.
hypothesis.settings.register_profile("cellwall", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)
hypothesis.settings.load_profile("cellwall")


QUICK = ("adapters", "attack/test_volley.py", "demo", "lab", "lint", "reference", "unit")
"""What `--quick` runs of all tests, in about a minute: the pure core with a fifth of its drawn examples, each adapter
on a kernel, the lab, the reference model in packets, the hostile tenant without its floods, and the story. With paths
given it runs these."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="the pure core and a little of everything, nothing slow")
    parser.addoption("--full", action="store_true", help="also what takes many minutes, or daemons of other programs")
    held = ("nftables", "iptables-nft", "iptables-legacy")
    parser.addoption("--backend", choices=held, help="what holds the wall of every world that tests share or open")
    parser.addoption("--update-golden", action="store_true", help="write tests/golden from what is rendered now")


def pytest_configure(config: pytest.Config) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        # A shell has what it starts in the background ignore these, and whatever a test starts would inherit that.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    # The lock of the legacy tables is the machine's, whatever the namespace: processes would wait for each other.
    lock = Path(tempfile.mkdtemp(prefix="cellwall-tests-"), "xtables.lock")
    os.environ["XTABLES_LOCKFILE"] = str(lock)
    config.add_cleanup(lambda: shutil.rmtree(lock.parent, ignore_errors=True))
    if config.getoption("--quick"):
        hypothesis.settings.load_profile("quick")
    if backend := config.getoption("--backend"):
        hold_walls_in(backend)
    Steps.every = config.getoption("--full")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What `--quick` leaves out is not even imported: each of many processes would."""
    if not config.getoption("--quick") or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return None
    kept = [config.rootpath / "tests" / place for place in QUICK]
    if any(collection_path.is_relative_to(place) or place.is_relative_to(collection_path) for place in kept):
        return None
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _put_long_files_first(items)
    without_root = pytest.mark.skip(reason="needs root")
    beside_others = pytest.mark.skip(reason="beside other programs, or for many minutes: --full runs it")
    too_slow = pytest.mark.skip(reason="slow, and --quick was given")
    for item in items:
        # By markers: keywords hold the names of directories as well, that of the checkout among them.
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(without_root)
        if item.get_closest_marker("slow") and config.getoption("--quick"):
            item.add_marker(too_slow)
        if item.get_closest_marker("full") and not config.getoption("--full"):
            item.add_marker(beside_others)


def _put_long_files_first(items: list[pytest.Item]) -> None:
    """Files are given out in this order, and one that takes minutes must not be what all the others are waited for:
    first those that say so, then by their tests on a node, of which a slow one counts as ten."""
    cost: Counter[Path] = Counter()
    for item in items:
        if item.get_closest_marker("root"):
            cost[item.path] += 10 if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: (item.get_closest_marker("minutes") is None, -cost[item.path]))


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab of the test's own, nothing of cellwall in it."""
    with Lab() as lab:
        yield lab


@pytest.fixture
def fresh_node() -> Iterator[World]:
    """A node of the test's own, with its wall not up yet; the test runs on it."""
    with open_world(up=False) as world:
        yield world


@pytest.fixture(scope="module")
def node_lab() -> Iterator[World]:
    """A node with its wall up, which the tests of a module share; they run on it."""
    with open_world() as world:
        yield world


@pytest.fixture
def wall(node_lab: World) -> Wall:
    """The wall of the shared node."""
    return node_lab.wall
