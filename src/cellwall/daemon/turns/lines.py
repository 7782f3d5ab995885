"""What waits, a line for each user who asked: nobody's many calls keep another's waiting.

Whose turn it is: root's every other time, as the node's runtimes are root, and the others' one after the other. Within
a line it is the order in which it was asked for. Owns no lock: who shares it does.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

J = TypeVar("J")

ROOT = 0


class Lines(Generic[J]):
    """Nobody waits at first."""

    def __init__(self) -> None:
        self._lines: dict[int, deque[J]] = {}  # none of them empty; of all but root in the order of their turns
        self._after_root = False

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[J]:
        return (job for line in self._lines.values() for job in line)

    def append(self, user: int, job: J) -> None:
        """At the end of that user's line."""
        self._lines.setdefault(user, deque()).append(job)

    def take(self, also: Callable[[Sequence[J], J], bool]) -> list[J]:
        """The first of the line whose turn it is, and those right behind it that `also`, asked with what is taken,
        wants as well. Empty: nobody waits."""
        if not self._lines:
            return []
        other = next((user for user in self._lines if user != ROOT), ROOT)
        user = ROOT if ROOT in self._lines and not self._after_root else other
        self._after_root = user == ROOT
        line = self._lines.pop(user)
        taken = [line.popleft()]
        while line and also(taken, line[0]):
            taken.append(line.popleft())
        if line:
            self._lines[user] = line  # behind the others
        return taken

    def remove(self, user: int, job: J) -> None:
        """Take it out of that user's line, if it still waits."""
        line = self._lines.get(user, deque())
        if job in line:
            line.remove(job)
        if user in self._lines and not line:
            del self._lines[user]

    def clear(self) -> list[J]:
        """Everything that waited; nobody waits then."""
        left = list(self)
        self._lines.clear()
        return left
