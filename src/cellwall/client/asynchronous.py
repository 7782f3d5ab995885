"""The client for programs that do something else meanwhile: aiohttp's, over the daemon's socket."""

import asyncio
import os
from collections.abc import Sequence
from typing import TypeVar, Unpack

import aiohttp
from yarl import URL

from cellwall.audit.events import DEFAULT_LIMIT, Log
from cellwall.client import asks
from cellwall.client.asks import Ask
from cellwall.client.http import refusal, refuse_too_large
from cellwall.client.patience import ANSWER, LATER, PATIENCE, Patience, unreachable
from cellwall.client.places import reachable
from cellwall.config import paths_for
from cellwall.engine.arguments import AttachOptions, Document, parse_subject, permissions_patch, read_attach
from cellwall.engine.requests import AttachRequest, Reconciled, Status, UpReport
from cellwall.errors import CellwallError, NotFound
from cellwall.model.addresses import Address, Protocol
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.figures import TrafficReport
from cellwall.model.policy import Policy, PolicyRecord
from cellwall.model.reserved import DEFAULT_LEASE, Reservation

R = TypeVar("R")

_TIMES = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE, sock_read=ANSWER)


class AsyncClient:
    """`cellwall.client.Client`, each verb to be awaited. Tasks of one loop may share a client."""

    def __init__(self, path: str, *, patience: float = PATIENCE) -> None:
        self._path = path
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None
        self._directory: int | None = None

    @classmethod
    def open(cls, *, root: str | os.PathLike[str] | None = None, patience: float = PATIENCE) -> "AsyncClient":
        """The client of the node whose files are under `root`, as for `Wall.open`. Connects to nothing yet."""
        return cls(paths_for(root).socket, patience=patience)

    async def close(self) -> None:
        """Release the connections. Idempotent; a client that is asked again opens others."""
        session, self._session = self._session, None
        directory, self._directory = self._directory, None
        if session is not None:
            await session.close()
        if directory is not None:
            os.close(directory)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    # ------------------------------------------------------------------ the node

    async def up(self) -> UpReport:
        """Rules, bridge and kernel settings as configured where the daemon runs. Idempotent."""
        return await self._ask(asks.up())

    async def down(self, *, force: bool = False) -> None:
        """Remove rules and bridge. Conflict while endpoints are attached, unless `force` detaches them."""
        await self._ask(asks.down(force=force))

    async def status(self) -> Status:
        """Live compared with desired; changes nothing."""
        return await self._ask(asks.status())

    async def reconcile(self) -> Reconciled:
        """Repair exactly the difference between live and desired, as configured where the daemon runs."""
        return await self._ask(asks.reconcile())

    async def dns(self) -> tuple[Address, ...]:
        """The resolvers that sandboxes are told."""
        return await self._ask(asks.dns())

    # ------------------------------------------------------------------ endpoints

    async def attach(self, container_id: str, **options: Unpack[AttachOptions]) -> Endpoint:
        """Attach one sandbox; packets pass when this returns. Idempotent for equal arguments."""
        return await self._ask(asks.attach(read_attach(container_id, **options)))

    async def claim(self, container_id: str, **options: Unpack[AttachOptions]) -> Endpoint:
        """`attach`, to a sandbox that stands ready: its namespace is at the endpoint's `netns`. Where none is left, or
        it needs what they have not, it is attached as any."""
        return await self._ask(asks.claim(read_attach(container_id, **options)))

    async def attach_many(self, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
        """Attach all of these, in one transaction, or none."""
        return await self._ask(asks.attach_many(requests)) if requests else ()

    async def detach(self, container_id: str, *, ifname: str = "eth0") -> bool:
        """Close the endpoint; False where there was none, or where a daemon died before it said that there was."""
        return await self._ask(asks.detach(container_id, ifname))

    async def detach_many(self, keys: Sequence[EndpointKey]) -> int:
        """Close all of these; returns how many there were."""
        return await self._ask(asks.detach_many(keys)) if keys else 0

    async def expose(self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0") -> Endpoint:
        """Publish a port of an attached endpoint. Idempotent."""
        return await self._ask(asks.expose(container_id, ifname, binding))

    async def expose_port(
        self, container_id: str, host_port: int, port: int, protocol: Protocol = "tcp", *, ifname: str = "eth0"
    ) -> Endpoint:
        """Publish one host port."""
        return await self.expose(container_id, PortBinding(protocol, host_port, port), ifname=ifname)

    async def unexpose(self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0") -> Endpoint:
        """Withdraw a port. Tolerates one that is not published."""
        return await self._ask(asks.unexpose(container_id, ifname, binding))

    async def reserve_ports(
        self, container_id: str, count: int = 1, *, tenant: str | None = None, seconds: float = DEFAULT_LEASE
    ) -> Reservation:
        """Have `count` free host ports kept for a container, attached or not, which the daemon holds. Idempotent."""
        return await self._ask(asks.reserve_ports(container_id, count, tenant, seconds))

    async def release_ports(self, container_id: str) -> int:
        """Give back what is reserved for a container; how many ports there were. Idempotent."""
        return await self._ask(asks.release_ports(container_id))

    async def reservations(self) -> tuple[Reservation, ...]:
        """What is reserved and this caller's to see, by container."""
        return await self._ask(asks.reservations())

    async def endpoints(self) -> tuple[Endpoint, ...]:
        """All attached endpoints that this caller may see."""
        return await self._ask(asks.endpoints())

    async def endpoint(self, container_id: str, *, ifname: str = "eth0") -> Endpoint:
        """One attached endpoint; NotFound."""
        return await self._ask(asks.endpoint(container_id, ifname))

    async def verify(self, container_id: str, *, ifname: str = "eth0") -> tuple[str, ...]:
        """What is wrong with one endpoint, on the node and inside its sandbox; empty: nothing."""
        return await self._ask(asks.verify(container_id, ifname))

    async def traffic(self) -> TrafficReport:
        """What each endpoint that this caller may see has sent and received by now, and how many flows it has."""
        return await self._ask(asks.traffic())

    async def metrics(self) -> str:
        """What Prometheus reads of the daemon, as text."""
        return await self._ask(asks.metrics())

    # ------------------------------------------------------------------ policies

    async def set_policy(
        self, policy: Policy | Document, *, tenant: str = "", container: str = "", ifname: str = "eth0"
    ) -> PolicyRecord:
        """Replace the policy of a tenant, or of an attached endpoint; in force when this returns. Idempotent."""
        return await self._ask(asks.set_policy(parse_subject(tenant, container, ifname), policy))

    async def patch_policy(
        self, patch: Document, *, tenant: str = "", container: str = "", ifname: str = "eth0"
    ) -> PolicyRecord:
        """Change what a JSON merge patch (RFC 7396) names."""
        return await self._ask(asks.patch_policy(parse_subject(tenant, container, ifname), patch))

    async def update_network_permissions(
        self,
        container: str,
        *,
        block_network: bool = False,
        allow_list: Sequence[str] | None = None,
        ifname: str = "eth0",
    ) -> PolicyRecord:
        """Replace what an endpoint may open by nothing, by these networks or, with neither, by all that its tenant
        may."""
        patch = permissions_patch(block_network=block_network, allow_list=allow_list)
        return await self.patch_policy(patch, container=container, ifname=ifname)

    async def remove_policy(self, *, tenant: str = "", container: str = "", ifname: str = "eth0") -> bool:
        """Nothing but the floor and the other tier holds when this returns; False where there was none."""
        return await self._ask(asks.remove_policy(parse_subject(tenant, container, ifname)))

    async def policy(self, *, tenant: str = "", container: str = "", ifname: str = "eth0") -> PolicyRecord | None:
        """The policy in force; None of a tenant that has none. NotFound for a container that is not attached."""
        try:
            return await self._ask(asks.policy(parse_subject(tenant, container, ifname)))
        except NotFound:
            if container:
                raise
            return None

    async def policies(self) -> dict[str, PolicyRecord]:
        """The policies of all tenants that have one and that this caller may see, by tenant."""
        return await self._ask(asks.policies())

    # ------------------------------------------------------------------ what was tried

    async def log(
        self,
        *,
        tenant: str = "",
        container: str = "",
        since: str = "",
        until: str = "",
        reason: str = "",
        limit: int = DEFAULT_LIMIT,
    ) -> Log:
        """The latest events that are asked for, of tenants that this caller may be told of."""
        return await self._ask(
            asks.log(tenant=tenant, container=container, since=since, until=until, reason=reason, limit=limit)
        )

    # ------------------------------------------------------------------ the way there

    async def _ask(self, ask: Ask[R]) -> R:
        """Ask until somebody has answered."""
        patience = Patience(self._patience)
        while True:
            last: CellwallError
            try:
                status, body = await self._exchange(ask)
            except (aiohttp.ClientError, OSError) as error:
                cause = _cause(error)
                last = unreachable(self._path, cause, self._patience)
                if isinstance(cause, PermissionError | TimeoutError):
                    raise last from error
            else:
                if status < 300:
                    return ask.read(body)
                last = refusal(status, body)
                if status != LATER:
                    raise last
            pause = patience.pause()
            if pause is None:
                raise last
            await asyncio.sleep(pause)

    async def _exchange(self, ask: Ask[R]) -> tuple[int, bytes]:
        session = self._opened()
        headers = {"Content-Type": "application/json"} if ask.body else {}
        target = URL("http://cellwall" + ask.target, encoded=True)
        async with session.request(ask.method, target, data=ask.body or None, headers=headers) as response:
            refuse_too_large(response.content_length or 0)
            async with asyncio.timeout(ANSWER):  # one that trickles in is none
                return response.status, await response.read()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            place, self._directory = reachable(self._path)
            connector = aiohttp.UnixConnector(place, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMES, auto_decompress=False)
        return self._session


def _cause(error: Exception) -> OSError | None:
    """What the operating system said; None where a connection just ended."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        return TimeoutError()
    return error if isinstance(error, OSError) and error.errno is not None else None
