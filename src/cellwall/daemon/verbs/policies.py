"""Policies of tenants, and endpoints' own."""

from collections.abc import Callable, Mapping
from typing import TypedDict, TypeVar

from cellwall.daemon.asker import Asker
from cellwall.daemon.quotas import refuse_policies
from cellwall.daemon.verbs.walls import Walls
from cellwall.engine.arguments import Subject
from cellwall.errors import InvalidSpec, NotFound
from cellwall.model.endpoint import EndpointKey
from cellwall.model.policy import PolicyRecord
from cellwall.wire.policies import PolicyBody, pointed, written

R = TypeVar("R")


class Policies:
    """Those of one node."""

    def __init__(self, walls: Walls) -> None:
        self._wall = walls.writing
        self._beside = walls.beside
        self._writer = walls.writer
        self._reader = walls.reader

    async def all(self, asker: Asker, render: Callable[[Mapping[str, PolicyRecord]], R]) -> R:
        """Those of tenants, of which who asks may be told, as `render` has them, on the reader's thread."""

        def look() -> R:
            known, allows = self._beside.policies(), asker.authority.allows
            return render({tenant: one for tenant, one in known.items() if allows(asker.peer, "policy", tenant)})

        return await self._reader.do(look, whose=asker.whose)

    async def one(self, asker: Asker, subject: Subject) -> PolicyRecord:
        """A tenant's, or an endpoint's own; NotFound."""

        def read() -> PolicyRecord:
            if isinstance(subject, EndpointKey):  # in one look: by a second one it may be another tenant's
                return asker.find(self._beside, "policy", subject).own_policy
            asker.authority.permit(asker.peer, "policy", subject)
            record = self._beside.policy(tenant=subject)
            if record is None:
                raise NotFound(f"tenant: {subject}: has no policy")
            return record

        return await self._reader.do(read, whose=asker.whose)

    async def set(self, asker: Asker, subject: Subject, body: PolicyBody, *, patch: bool) -> PolicyRecord:
        """Replaced whole, or changed by a merge patch. A refusal points into the body."""

        def act() -> PolicyRecord:
            self._may_rule(asker, subject)
            member = not asker.peer.root
            if member and not isinstance(subject, EndpointKey):
                refuse_policies(asker, subject, self._wall.policy_sizes())
            change = self._wall.patch_policy if patch else self._wall.set_policy
            try:
                return change(written(body), member=member, **_named(subject))
            except InvalidSpec as error:
                raise pointed(error) from error

        return await self._writer.do(act, whose=asker.whose)

    async def remove(self, asker: Asker, subject: Subject) -> bool:
        """Whether there was one."""

        def act() -> bool:
            self._may_rule(asker, subject)
            return self._wall.remove_policy(**_named(subject))

        return await self._writer.do(act, whose=asker.whose)

    def _may_rule(self, asker: Asker, subject: Subject) -> None:
        if isinstance(subject, EndpointKey):
            asker.find(self._wall, "policy", subject)
        else:
            asker.authority.permit(asker.peer, "policy", subject)


class _Named(TypedDict, total=False):
    tenant: str
    container: str
    ifname: str


def _named(subject: Subject) -> _Named:
    if isinstance(subject, EndpointKey):
        return {"container": subject.container_id, "ifname": subject.ifname}
    return {"tenant": subject}
