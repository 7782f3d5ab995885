"""Tables that could not be owned are owned as soon as they can be."""

import pytest

from cellwall.daemon.fdstore.owner_socket import OwnerSocket
from cellwall.errors import Conflict

DESCRIPTOR = 7


class Manager:
    """A service manager that keeps what it is given."""

    given = ()

    def __init__(self) -> None:
        self.kept: list[int] = []

    def keep(self, _: str, fd: int) -> None:
        self.kept.append(fd)


class Owner:
    """A wall that is refused so often."""

    owning_descriptor = DESCRIPTOR

    def __init__(self, *refusals: str) -> None:
        self._refusals = [*refusals]
        self.repairs = 0
        self.unrepaired = 0

    def own(self, _: int | None = None) -> str:
        return self._refusals.pop(0) if self._refusals else ""

    def repair(self) -> None:
        self.repairs += 1
        if self.repairs <= self.unrepaired:
            raise Conflict("somebody else owns the table")


def test_what_is_refused_is_tried_until_it_is_not_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    manager, wall = Manager(), Owner("no nft", "no nft", "another owner")
    owner = OwnerSocket(manager)  # type: ignore[arg-type]
    owner.own(wall)  # type: ignore[arg-type]
    for kept in ([], [], [DESCRIPTOR], [DESCRIPTOR]):
        owner.own_again(wall)  # type: ignore[arg-type]
        assert manager.kept == kept
        assert wall.repairs == len(kept)  # of what others took out until it was owned
    assert len(caplog.records) == 2


def test_a_repair_that_failed_once_they_were_owned_is_tried_again() -> None:
    """What others took out until then is looked for as long as it takes, and no longer."""
    wall = Owner("no nft")
    wall.unrepaired = 1
    owner = OwnerSocket(Manager())  # type: ignore[arg-type]
    owner.own(wall)  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        owner.own_again(wall)  # type: ignore[arg-type]
    assert owner.owned
    for _ in range(2):
        owner.own_again(wall)  # type: ignore[arg-type]
        assert wall.repairs == 2
