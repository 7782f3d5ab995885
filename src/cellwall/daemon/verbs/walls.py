"""The two walls of a node, and the threads that use them: one writes, and one that only lists is beside it."""

from collections.abc import Callable
from typing import TypeVar

from cellwall.api import Wall
from cellwall.daemon.turns.lines import ROOT, Whose
from cellwall.daemon.turns.reader import Reader
from cellwall.daemon.turns.single import Single
from cellwall.daemon.turns.writer import Writer

R = TypeVar("R")


class Walls:
    """`writing` is the wall of who holds the writer lock for its life, and `writer`'s to use; `beside` is `reader`'s,
    and changes nothing."""

    def __init__(self, writing: Wall, beside: Wall, writer: Writer, reader: Reader) -> None:
        self.writing = writing
        self.beside = beside
        self.writer = writer
        self.reader = reader
        self._one_look = Single()

    async def look(self, act: Callable[[], R], *, whose: Whose = ROOT) -> R:
        """What compares the kernel with the record, in turn with the writes and one at a time: however many ask, a
        write waits for one, and who asks for one of each other group's."""
        async with self._one_look.turn(whose):
            return await self.writer.do(act, whose=whose, looks=True)
