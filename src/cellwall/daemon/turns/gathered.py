"""Attaches and detaches that waited in a row, carried out together. On the writer's thread."""

from collections.abc import Callable, Sequence

import msgspec

from cellwall.api import Wall
from cellwall.daemon.asker import Asker, found
from cellwall.daemon.quotas import admit, refuse_published
from cellwall.engine.requests import AttachRequest
from cellwall.errors import CellwallError, Incomplete, InvalidSpec
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.wire.bodies import Places


class Attached(msgspec.Struct, frozen=True):
    """An endpoint; `before`: it was attached so already."""

    endpoint: Endpoint
    before: bool


class Attach(msgspec.Struct, frozen=True):
    """One that waits, where its caller wrote what, and who that is."""

    request: AttachRequest
    places: Places
    asker: Asker

    def refusal(self, wall: Wall) -> CellwallError | None:
        """Why it may not be asked for, if it may not any more: a grant may have been taken back while it waited."""
        try:
            admit(self.asker, wall, [self.request])
        except CellwallError as error:
            return error
        return None


class Detach(msgspec.Struct, frozen=True):
    """One that waits, and who asked."""

    key: EndpointKey
    asker: Asker


AttachMany = Callable[[Sequence[AttachRequest]], Sequence[Endpoint]]
"""A verb of a wall: all of these or none."""


def attach_gathered(wall: Wall, attach: AttachMany, items: Sequence[Attach]) -> list[Attached | Exception]:
    """In one transaction; where that is refused each by itself, and has its own answer."""
    refusals = [item.refusal(wall) for item in items]
    admitted = [item for item, refusal in zip(items, refusals, strict=True) if refusal is None]
    outcomes = iter(_attach_admitted(wall, attach, admitted))
    return [refusal or next(outcomes) for refusal in refusals]


def _attach_admitted(wall: Wall, attach: AttachMany, items: Sequence[Attach]) -> list[Attached | Exception]:
    if len(items) <= 1:
        return [_attach_one(attach, item, found(wall, item.request.key)) for item in items]
    before = [found(wall, item.request.key) for item in items]
    try:
        _refuse_together(wall, items)
        made = attach([item.request for item in items])
    except Exception:  # of one of them, and nothing was done
        # Each is judged again, by what there is behind those before it.
        return [item.refusal(wall) or _attach_one(attach, item, found(wall, item.request.key)) for item in items]
    return [Attached(one, one == known) for one, known in zip(made, before, strict=True)]


def _refuse_together(wall: Wall, items: Sequence[Attach]) -> None:
    """Raise where all of these are more than who asks may have, though each of them is not."""
    # Root is left out before: it is in groups, too, and has no bound.
    askers = {item.asker.peer.groups: item.asker for item in items if not item.asker.peer.root}
    requests = [item.request for item in items]
    refuse_published(askers.values(), wall, [(each.key, each.tenant or "", each.bindings) for each in requests])


def _attach_one(attach: AttachMany, item: Attach, known: Endpoint | None) -> Attached | Exception:
    try:
        endpoint = attach([item.request])[0]
    except InvalidSpec as error:
        return item.places.of(error)
    except Exception as error:
        return error
    return Attached(endpoint, endpoint == known)


def detach_gathered(wall: Wall, items: Sequence[Detach]) -> list[bool | Exception]:
    """In one transaction, of each whether it was there for who asked; where that fails each by itself."""
    there = [found(wall, item.key) is not None for item in items]
    mine = [item.asker.may_close(wall, item.key) for item in items]
    try:
        wall.detach_many([item.key for item, own in zip(items, mine, strict=True) if own])
    except Incomplete as error:
        return [error if own and was else False for own, was in zip(mine, there, strict=True)]
    except Exception as error:
        if len(items) == 1:
            return [error]
        return [detach_gathered(wall, [item])[0] for item in items]
    return [own and was for own, was in zip(mine, there, strict=True)]
