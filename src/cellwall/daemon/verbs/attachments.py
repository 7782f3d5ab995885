"""Containers come and go: attached, claimed, detached; one, many in one transaction, or whoever waits in a row."""

from collections.abc import Sequence
from functools import partial

from cellwall.daemon.asker import Asker
from cellwall.daemon.pool import Pool
from cellwall.daemon.quotas import admit
from cellwall.daemon.turns.gathered import Attach, Attached, Detach, attach_gathered, detach_gathered
from cellwall.daemon.turns.writer import Kind
from cellwall.daemon.verbs.walls import Walls
from cellwall.engine.requests import AttachRequest, validate_request
from cellwall.errors import CellwallError, InvalidSpec
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.pool import was_pooled
from cellwall.wire.bodies import Places


class Attachments:
    """Those of one node. `pool` is told of each claim."""

    def __init__(self, walls: Walls, pool: Pool) -> None:
        self._wall = walls.writing
        self._writer = walls.writer
        self._pool = pool
        attach_many = partial(attach_gathered, self._wall, self._wall.attach_many)
        self._attaching: Kind[Attach, Attached] = Kind(attach_many, lambda item: item.request.key)
        self._claiming: Kind[Attach, Attached] = Kind(self._claim_gathered, lambda item: item.request.key)
        self._detaching: Kind[Detach, bool] = Kind(partial(detach_gathered, self._wall), lambda item: item.key)

    async def attach(self, asker: Asker, places: Places) -> Attached:
        """Those that wait in a row are attached in one transaction; where that is refused each is attached by itself,
        and has its own answer."""
        (request,) = asker.authority.admit(asker.peer, places.requests)
        return await self._writer.add(self._attaching, Attach(request, places, asker), whose=asker.whose)

    async def claim(self, asker: Asker, places: Places, *, alone: bool = False) -> Attached:
        """`attach`, to a sandbox that stands ready where there is one. `alone`: nobody else has asked for anything, so
        that nobody waits for what is done at once."""
        if alone and (endpoint := self.claim_at_once(asker, places)) is not None:
            return Attached(endpoint, before=False)
        (request,) = asker.authority.admit(asker.peer, places.requests)
        return await self._writer.add(self._claiming, Attach(request, places, asker), whose=asker.whose)

    def claim_at_once(self, asker: Asker, places: Places) -> Endpoint | None:
        """What `claim` gives for one that comes alone, by the thread of the event loop; None, and what was begun is
        undone, where it is the writer's to carry out."""
        (request,) = asker.authority.admit(asker.peer, places.requests)
        return self._writer.at_once(lambda: self._claimed_at_once(request), lambda: self._pool.claimed([True]))

    async def attach_many(self, asker: Asker, places: Places) -> tuple[Endpoint, ...]:
        """All or none. A refusal has the pointer of its entry."""
        asker.authority.admit(asker.peer, places.requests)

        def act() -> tuple[Endpoint, ...]:
            admitted = admit(asker, self._wall, places.requests)
            for number, request in enumerate(admitted):
                try:
                    validate_request(request, self._wall.settings)
                except InvalidSpec as error:  # whatever the others say, it is this very entry
                    raise places.of(error, number) from error
            try:
                return self._wall.attach_many(admitted)
            except InvalidSpec as error:
                raise places.of(error) from error

        return await self._writer.do(act, whose=asker.whose)

    async def detach(self, asker: Asker, key: EndpointKey) -> bool:
        """Those that wait in a row are closed in one transaction."""
        return await self._writer.add(self._detaching, Detach(key, asker), whose=asker.whose)

    async def detach_many(self, asker: Asker, keys: Sequence[EndpointKey]) -> int:
        """Those that are there for who asks."""

        def act() -> int:
            return self._wall.detach_many([key for key in keys if asker.may_close(self._wall, key)])

        return await self._writer.do(act, whose=asker.whose)

    def _claimed_at_once(self, request: AttachRequest) -> Endpoint | None:
        try:
            return self._wall.claim_at_once(request)
        except (CellwallError, OSError):  # it was taken back, and is asked for again in its turn, which tells of it
            return None

    def _claim_gathered(self, items: Sequence[Attach]) -> list[Attached | Exception]:
        outcomes = attach_gathered(self._wall, self._wall.claim_many, items)
        made = [one.endpoint for one in outcomes if isinstance(one, Attached) and not one.before]
        self._pool.claimed([was_pooled(endpoint) for endpoint in made])
        return outcomes
