"""How connections are taken: in turns with those that there are, and none is lost on the way."""

import asyncio
import os
import socket
from pathlib import Path

from aiohttp import web

from cellwall.daemon.authority import Authority
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.http.listening import Listener

MANY = 200


def test_who_is_connected_has_its_turn_between_a_few_new_ones(tmp_path: Path) -> None:
    asyncio.run(_taken_in_turns(tmp_path))


async def _taken_in_turns(place: Path) -> None:
    listener = Listener(web.Application(), Bounds(), Authority())
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(place / "s"))
        sock.listen(MANY)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(MANY)]
        for each in waiting:
            each.connect(str(place / "s"))
        before, turns = _descriptors(), 0
        await listener.open(sock)
        while _descriptors() < before + MANY:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= MANY // 16
        for each in waiting:
            each.close()
        await listener.close()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
