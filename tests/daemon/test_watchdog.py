"""The watchdog hears of a writer that gets on, and of no other."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.adapters.service_manager import ServiceManager
from cellwall.daemon.turns.watchdog import pet
from cellwall.daemon.turns.writer import Writer

PATIENCE = 0.3


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def manager_of(heard: socket.socket, patience: float = PATIENCE) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": str(int(patience * 1e6))})


async def next_word(heard: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(heard, 100), 30)


def test_a_writer_that_gets_on_is_heard_of_and_one_that_hangs_is_not(heard: socket.socket) -> None:
    writer, go_on = Writer(limit=8, together=1, afterwards=lambda: None), threading.Event()

    async def story() -> None:
        petting = asyncio.create_task(pet(manager_of(heard), writer))
        for _ in range(3):
            assert await next_word(heard) == b"WATCHDOG=1"
        hanging = writer.do(go_on.wait)
        while writer.busy_for() < PATIENCE:
            await asyncio.sleep(0.01)
        while True:  # what was said before
            try:
                heard.recv(100)
            except BlockingIOError:
                break
        await asyncio.sleep(PATIENCE)  # three times as long as between two words
        with pytest.raises(BlockingIOError):
            heard.recv(100)
        go_on.set()
        await hanging
        assert await next_word(heard) == b"WATCHDOG=1"
        petting.cancel()

    writer.start()
    asyncio.run(story())
    writer.end()


def test_a_writer_that_is_no_more_is_not_heard_of(heard: socket.socket) -> None:
    writer = Writer(limit=8, together=1, afterwards=lambda: None)
    writer.start()
    writer.end()

    async def story() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pet(manager_of(heard, 0.05), writer), 0.2)

    asyncio.run(story())
    with pytest.raises(BlockingIOError):
        heard.recv(100)


def test_without_a_watchdog_there_is_nothing_to_tell(heard: socket.socket) -> None:
    asyncio.run(
        pet(ServiceManager({"NOTIFY_SOCKET": heard.getsockname()}), Writer(limit=1, together=1, afterwards=print))
    )
    with pytest.raises(BlockingIOError):
        heard.recv(100)
