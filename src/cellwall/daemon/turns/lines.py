"""What waits, a line for each group, and in it for each user who asked: nobody's many calls keep another's waiting.

Whose turn it is: root's every other time, as the node's runtimes are root, and the groups' one after the other. Of a
group it is its users' one after the other, and of a user it is the order in which it was asked for. A line for each
user alone would give whoever has subordinate ids as many turns as it has ids. Owns no lock: who shares it does.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

J = TypeVar("J")


class Whose(msgspec.Struct, frozen=True):
    """Who waits: a user, by number, of a group that shares its turns; None: root, who is in nobody's line."""

    group: int | None
    user: int


ROOT = Whose(None, 0)


class Lines(Generic[J]):
    """Nobody waits at first."""

    def __init__(self) -> None:
        # None of them empty; groups but root's, and the users of each, in the order of their turns.
        self._groups: dict[int | None, dict[int, deque[J]]] = {}
        self._after_root = False

    def __len__(self) -> int:
        return sum(len(line) for users in self._groups.values() for line in users.values())

    def __iter__(self) -> Iterator[J]:
        return (job for users in self._groups.values() for line in users.values() for job in line)

    def append(self, whose: Whose, job: J) -> None:
        """At the end of that user's line."""
        self._groups.setdefault(whose.group, {}).setdefault(whose.user, deque()).append(job)

    def take(self, also: Callable[[Sequence[J], J], bool] = lambda taken, job: False) -> list[J]:
        """The first of the line whose turn it is, and those right behind it that `also`, asked with what is taken,
        wants as well. Empty: nobody waits."""
        if not self._groups:
            return []
        other = next((group for group in self._groups if group is not None), None)
        group = None if None in self._groups and not self._after_root else other
        self._after_root = group is None
        users = self._groups.pop(group)
        user = next(iter(users))
        line = users.pop(user)
        taken = [line.popleft()]
        while line and also(taken, line[0]):
            taken.append(line.popleft())
        if line:
            users[user] = line  # behind the others of its group
        if users:
            self._groups[group] = users  # behind the other groups
        return taken

    def remove(self, whose: Whose, job: J) -> None:
        """Take it out of that user's line, if it still waits."""
        users = self._groups.get(whose.group, {})
        line = users.get(whose.user, deque())
        if job in line:
            line.remove(job)
        if whose.user in users and not line:
            del users[whose.user]
        if whose.group in self._groups and not users:
            del self._groups[whose.group]

    def clear(self) -> list[J]:
        """Everything that waited; nobody waits then."""
        left = list(self)
        self._groups.clear()
        return left
