"""What is taken away while the watch is amid a repair, under the writer lock, is closed at once, and not after it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.api import Wall
from cellwall.engine.backend import Holder
from cellwall.errors import KernelError
from cellwall.lab import connect
from cellwall.lab.addresses import LAN4, LAN6
from cellwall.model.settings import Settings
from cellwall.watch.closing import Closer
from cellwall.watch.loop import NOBODY, watch
from world import World, Wrapped, assert_connection, open_world, public, rewired

pytestmark = pytest.mark.root
PATIENCE = 30.0
TABLES = ("filter", "nat", "mangle", "raw", "security")
EMPTY = "".join(f"*{table}\nCOMMIT\n" for table in TABLES).encode()
HELD = {
    "nft delete table inet cellwall": Settings(backend="nftables"),
    "nft flush table inet cellwall": Settings(backend="nftables"),
    "iptables-nft-restore -w 10": Settings(backend="iptables", iptables="nft"),
    "iptables-legacy-restore -w 10": Settings(backend="iptables", iptables="legacy"),
}


class Amid:
    """Has what comes to it wait until it is let go."""

    def __init__(self) -> None:
        self.reached, self.goes_on = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.goes_on.wait(PATIENCE)


class Closes:
    """Counts what is closed."""

    def __init__(self) -> None:
        self.at = 0.0
        self.was = threading.Event()

    def looked(self, repaired: int, *, failed: bool) -> None:
        pass

    def closed(self) -> None:
        self.at = time.monotonic()
        self.was.set()


def beside(world: World) -> Wall:
    return Wall.open(root=world.lab.root, settings=lambda: world.wall.settings, reading=True)


@contextmanager
def watched(world: World, amid: Amid, counts: Closes) -> Iterator[None]:
    """The first repair stops when the rules are laid, and nothing of what comes behind them."""
    links = world.wall._site.links

    def latch(*args: Any, **named: Any) -> bool:
        amid.wait()
        return links.ensure_latch(*args, **named)

    wall = rewired(world.wall, links=Wrapped(links, ensure_latch=latch))
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with beside(world) as closer:
        named = {"closer": closer, "counts": counts}
        thread = threading.Thread(target=watch, args=(wall, reading), kwargs=named)
        thread.start()
        try:
            yield
        finally:
            amid.goes_on.set()
            os.close(writing)
            thread.join()
            os.close(reading)


def run(world: World, command: str) -> None:
    program, *rest = command.split()
    world.lab.node.run([program, *rest], input=EMPTY if program.endswith("restore") else None)


@pytest.mark.parametrize("command", HELD)
def test_what_is_taken_away_amid_a_repair_is_closed_at_once(command: str) -> None:
    amid, counts = Amid(), Closes()
    with open_world(settings=HELD[command]) as world:
        services = world.lab.lan.serve(udp=[80])
        world.lab.internet.serve(tcp=[80])
        tenant = world.attach("tenant")

        def arrives() -> bool:
            token = world.token()
            for address in (LAN4, LAN6):
                connect(tenant.host, address, 80, udp=True, payload=token, timeout=0.1)
            return services.saw(token)

        run(world, command)
        assert arrives()
        with watched(world, amid, counts):
            assert amid.reached.wait(PATIENCE)
            counts.was.clear()  # of what was open before
            assert not arrives()
            began = time.monotonic()
            run(world, command)
            assert counts.was.wait(PATIENCE / 2)
            assert not amid.goes_on.is_set()
            assert counts.at - began < PATIENCE / 10
            assert not arrives()
        world.wall.repair()
        assert world.wall.status().drift == ()
        for family in (4, 6):
            assert_connection(tenant.host, public(family), 80)
        assert not arrives()


class Stubborn:
    """A wall that cannot be closed so many times."""

    def __init__(self, failures: int) -> None:
        self.failures, self.done = failures, threading.Event()

    def close_unjudged(self) -> bool:
        if self.failures:
            self.failures -= 1
            raise KernelError(12, "have chains drop everything")
        self.done.set()
        return False


def test_what_could_not_be_closed_is_tried_again_without_a_word_of_the_kernels(node_lab: World) -> None:
    wall = Stubborn(2)
    with Closer(wall, NOBODY):
        assert wall.done.wait(PATIENCE)


def test_it_ends_at_once_whatever_it_asks(node_lab: World) -> None:
    for holder in (None, Holder("iptables", "legacy")):
        with Closer(Stubborn(0), NOBODY) as closer:
            closer.attend(holder)


class Spoiled:
    """A wall that cannot be closed until the thread that closes comes to what `then` does."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then, self.done = then, False

    def close_unjudged(self) -> bool:
        if self.done:
            return False
        if threading.current_thread().name != "cellwall-closing":
            raise KernelError(12, "have chains drop everything")
        self.done = True
        self.then()
        return False


def test_a_defect_of_the_thread_that_closes_ends_the_watch(node_lab: World) -> None:
    """Whoever runs it begins it anew."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    timer = threading.Timer(PATIENCE, os.close, [writing])

    def fail() -> None:
        raise RuntimeError("a defect")

    timer.start()
    with pytest.raises(RuntimeError, match="a defect"):
        watch(node_lab.wall, reading, closer=Spoiled(fail))  # type: ignore[arg-type]
    timer.cancel()
    os.close(writing)
    os.close(reading)


def test_nobody_waits_for_a_thread_that_has_ended(node_lab: World) -> None:
    ended = threading.Event()

    def fail() -> None:
        ended.set()
        raise RuntimeError("a defect")

    with Closer(Spoiled(fail), NOBODY) as closer:
        assert ended.wait(PATIENCE)
        closer._thread.join()
        began = time.monotonic()
        closer.let_it_close()
        assert time.monotonic() - began < 0.02
        with pytest.raises(RuntimeError, match="a defect"):
            closer.check()


def test_a_bridge_that_was_shut_by_a_closing_that_failed_is_opened_soon() -> None:
    """Of a wall that stands, as somebody laid it meanwhile, and about which nobody is told anything more."""
    looked, shut = threading.Event(), threading.Event()
    with open_world() as world, LinkLayer() as links:  # the wall's own is another thread's
        latched = world.wall._site.foundation()
        assert latched is not None
        index, mark = latched.bridge_index, world.wall.settings.mark

        def fail() -> None:
            assert looked.wait(PATIENCE)
            time.sleep(0.5)
            links.shut_latch(index)
            shut.set()
            raise KernelError(12, "have chains drop everything")

        counts = Closes()
        counts.looked = lambda repaired, *, failed: looked.set()  # type: ignore[method-assign]
        reading, writing = os.pipe2(os.O_CLOEXEC)
        named = {"closer": Spoiled(fail), "counts": counts}
        thread = threading.Thread(target=watch, args=(world.wall, reading), kwargs=named)
        thread.start()
        try:
            assert shut.wait(PATIENCE)
            began = time.monotonic()
            while links.latch_differences(index, mark):
                assert time.monotonic() - began < 10  # without an alarm there is a look every 30
                time.sleep(0.05)
        finally:
            os.close(writing)
            thread.join()
            os.close(reading)
