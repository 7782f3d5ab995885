"""Ports of the node: published for an endpoint, and kept for a container, attached or not."""

from cellwall.daemon.asker import Asker
from cellwall.daemon.quotas import permit_port, permit_reservation
from cellwall.daemon.verbs.walls import Walls
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.reserved import Reservation


class Ports:
    """Those of one node."""

    def __init__(self, walls: Walls) -> None:
        self._wall = walls.writing
        self._writer = walls.writer
        self._walls = walls

    async def expose(self, asker: Asker, key: EndpointKey, binding: PortBinding) -> Endpoint:
        """Publish one; the endpoint as it is then."""

        def act() -> Endpoint:
            endpoint = asker.find(self._wall, "expose", key)
            permit_port(asker, self._wall, key, endpoint.tenant, binding)
            return self._wall.expose(key.container_id, binding, ifname=key.ifname, user=asker.user)

        return await self._writer.do(act, whose=asker.whose)

    async def unexpose(self, asker: Asker, key: EndpointKey, binding: PortBinding) -> Endpoint:
        """Withdraw one; the endpoint as it is then."""

        def act() -> Endpoint:
            asker.find(self._wall, "expose", key)
            return self._wall.unexpose(key.container_id, binding, ifname=key.ifname)

        return await self._writer.do(act, whose=asker.whose)

    async def reservations(self, asker: Asker) -> list[Reservation]:
        """What is kept for containers of tenants that who asks may be told of."""
        known = await self._walls.reader.do(self._walls.beside.reservations, whose=asker.whose)
        return [one for one in known if asker.sees_tenant("list", one.tenant)]

    async def reserve(
        self, asker: Asker, container: str, count: int, tenant: str | None, seconds: float
    ) -> Reservation:
        """Who is not root names a tenant, as for an attach."""

        def act() -> Reservation:
            permit_reservation(asker, self._wall, container, tenant, count)
            return self._wall.reserve_ports(
                container,
                count,
                tenant=tenant,
                seconds=seconds,
                user=asker.user,
                sees=lambda other: asker.sees_tenant("expose", other),
            )

        return await self._writer.do(act, whose=asker.whose)

    async def release(self, asker: Asker, container: str) -> int:
        """Give back what is kept for tenants that who asks may publish for; how many ports that were."""

        def act() -> int:
            own = [one.tenant for one in self._wall.reservations() if one.container == container]
            seen = [tenant for tenant in own if asker.sees_tenant("expose", tenant)]
            return sum(self._wall.release_ports(container, tenant=tenant) for tenant in seen)

        return await self._writer.do(act, whose=asker.whose)
