"""The client for programs that wait for an answer."""

import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TypeVar, Unpack

from cellwall.audit.events import DEFAULT_LIMIT, Log
from cellwall.busy_poll import BusyPoll
from cellwall.client import asks
from cellwall.client.asks import Ask
from cellwall.client.http import Answer, Broken, read_answer, refusal
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
from cellwall.wire.octets import request_text

R = TypeVar("R")

_SHORT = 0.001
"""Seconds for which the answer to a short request is looked for before the thread sleeps: a claim takes about that."""
_NO_POLL = BusyPoll(0)
"""For any other, which takes longer."""


class Client:
    """One node's daemon, at a socket. Threads may share a client: each call has a connection to itself.

    Every method raises what that of `cellwall.api.Wall` raises, Forbidden where the daemon does not do it for this
    caller, NoPrivilege where the socket may not be used, and Unavailable where nobody answers for `patience` seconds.
    """

    def __init__(self, path: str, *, patience: float = PATIENCE) -> None:
        self._path = path
        self._patience = patience
        self._idle: list[socket.socket] = []
        self._poll = BusyPoll(_SHORT)
        self._state = Lock()
        self._process = os.getpid()

    @classmethod
    def open(cls, *, root: str | os.PathLike[str] | None = None, patience: float = PATIENCE) -> "Client":
        """The client of the node whose files are under `root`, as for `Wall.open`. Connects to nothing yet."""
        return cls(paths_for(root).socket, patience=patience)

    def close(self) -> None:
        """Release the connections. Idempotent; a client that is asked again opens others."""
        with self._state:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the node

    def up(self) -> UpReport:
        """Rules, bridge and kernel settings as configured where the daemon runs. Idempotent."""
        return self._ask(asks.up())

    def down(self, *, force: bool = False) -> None:
        """Remove rules and bridge. Conflict while endpoints are attached, unless `force` detaches them."""
        self._ask(asks.down(force=force))

    def status(self) -> Status:
        """Live compared with desired; changes nothing."""
        return self._ask(asks.status())

    def reconcile(self) -> Reconciled:
        """Repair exactly the difference between live and desired, as configured where the daemon runs."""
        return self._ask(asks.reconcile())

    def dns(self) -> tuple[Address, ...]:
        """The resolvers that sandboxes are told."""
        return self._ask(asks.dns())

    # ------------------------------------------------------------------ endpoints

    def attach(self, container_id: str, **options: Unpack[AttachOptions]) -> Endpoint:
        """Attach one sandbox; packets pass when this returns. Idempotent for equal arguments. `netns` is a path as this
        process sees it; the daemon opens it, by its own view of the file system."""
        return self._ask(asks.attach(read_attach(container_id, **options)))

    def claim(self, container_id: str, **options: Unpack[AttachOptions]) -> Endpoint:
        """`attach`, to a sandbox that stands ready: its namespace is at the endpoint's `netns`. Where none is left, or
        it needs what they have not, it is attached as any."""
        return self._ask(asks.claim(read_attach(container_id, **options)))

    def attach_many(self, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
        """Attach all of these, in one transaction, or none."""
        return self._ask(asks.attach_many(requests)) if requests else ()

    def detach(self, container_id: str, *, ifname: str = "eth0") -> bool:
        """Close the endpoint; False where there was none, or where a daemon died before it said that there was."""
        return self._ask(asks.detach(container_id, ifname))

    def detach_many(self, keys: Sequence[EndpointKey]) -> int:
        """Close all of these; returns how many there were."""
        return self._ask(asks.detach_many(keys)) if keys else 0

    def expose(self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0") -> Endpoint:
        """Publish a port of an attached endpoint. Idempotent."""
        return self._ask(asks.expose(container_id, ifname, binding))

    def expose_port(
        self, container_id: str, host_port: int, port: int, protocol: Protocol = "tcp", *, ifname: str = "eth0"
    ) -> Endpoint:
        """Publish one host port."""
        return self.expose(container_id, PortBinding(protocol, host_port, port), ifname=ifname)

    def unexpose(self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0") -> Endpoint:
        """Withdraw a port. Tolerates one that is not published."""
        return self._ask(asks.unexpose(container_id, ifname, binding))

    def reserve_ports(
        self, container_id: str, count: int = 1, *, tenant: str | None = None, seconds: float = DEFAULT_LEASE
    ) -> Reservation:
        """Have `count` free host ports kept for a container, attached or not, which the daemon holds. Idempotent."""
        return self._ask(asks.reserve_ports(container_id, count, tenant, seconds))

    def release_ports(self, container_id: str) -> int:
        """Give back what is reserved for a container; how many ports there were. Idempotent."""
        return self._ask(asks.release_ports(container_id))

    def reservations(self) -> tuple[Reservation, ...]:
        """What is reserved and this caller's to see, by container."""
        return self._ask(asks.reservations())

    def endpoints(self) -> tuple[Endpoint, ...]:
        """All attached endpoints that this caller may see."""
        return self._ask(asks.endpoints())

    def endpoint(self, container_id: str, *, ifname: str = "eth0") -> Endpoint:
        """One attached endpoint; NotFound."""
        return self._ask(asks.endpoint(container_id, ifname))

    def verify(self, container_id: str, *, ifname: str = "eth0") -> tuple[str, ...]:
        """What is wrong with one endpoint, on the node and inside its sandbox; empty: nothing."""
        return self._ask(asks.verify(container_id, ifname))

    def traffic(self) -> TrafficReport:
        """What each endpoint that this caller may see has sent and received by now, and how many flows it has."""
        return self._ask(asks.traffic())

    def metrics(self) -> str:
        """What Prometheus reads of the daemon, as text."""
        return self._ask(asks.metrics())

    # ------------------------------------------------------------------ policies

    def set_policy(
        self, policy: Policy | Document, *, tenant: str = "", container: str = "", ifname: str = "eth0"
    ) -> PolicyRecord:
        """Replace the policy of a tenant, or of an attached endpoint; in force when this returns. Idempotent."""
        return self._ask(asks.set_policy(parse_subject(tenant, container, ifname), policy))

    def patch_policy(
        self, patch: Document, *, tenant: str = "", container: str = "", ifname: str = "eth0"
    ) -> PolicyRecord:
        """Change what a JSON merge patch (RFC 7396) names."""
        return self._ask(asks.patch_policy(parse_subject(tenant, container, ifname), patch))

    def update_network_permissions(
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
        return self.patch_policy(patch, container=container, ifname=ifname)

    def remove_policy(self, *, tenant: str = "", container: str = "", ifname: str = "eth0") -> bool:
        """Nothing but the floor and the other tier holds when this returns; False where there was none."""
        return self._ask(asks.remove_policy(parse_subject(tenant, container, ifname)))

    def policy(self, *, tenant: str = "", container: str = "", ifname: str = "eth0") -> PolicyRecord | None:
        """The policy in force; None of a tenant that has none. NotFound for a container that is not attached."""
        try:
            return self._ask(asks.policy(parse_subject(tenant, container, ifname)))
        except NotFound:
            if container:
                raise
            return None

    def policies(self) -> dict[str, PolicyRecord]:
        """The policies of all tenants that have one and that this caller may see, by tenant."""
        return self._ask(asks.policies())

    # ------------------------------------------------------------------ what was tried

    def log(
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
        return self._ask(
            asks.log(tenant=tenant, container=container, since=since, until=until, reason=reason, limit=limit)
        )

    # ------------------------------------------------------------------ the way there

    def _ask(self, ask: Ask[R]) -> R:
        """Ask until somebody has answered."""
        text = request_text(ask.method, ask.target, ask.body)
        patience = Patience(self._patience)
        while True:
            last: CellwallError
            try:
                answer = self._exchange(text, self._poll if ask.short else _NO_POLL)
            except Broken:
                last = unreachable(self._path, None, self._patience)
            except OSError as error:
                last = unreachable(self._path, error, self._patience)
                if isinstance(error, PermissionError | TimeoutError):
                    raise last from error
            else:
                if answer.status < 300:
                    return ask.read(answer.body)
                last = refusal(answer.status, answer.body)
                if answer.status != LATER:
                    raise last
            pause = patience.pause()
            if pause is None:
                raise last
            time.sleep(pause)

    def _exchange(self, text: bytes, poll: BusyPoll) -> Answer:
        connection = self._taken() or self._connected()
        try:
            began = time.monotonic()
            connection.settimeout(ANSWER)
            connection.sendall(text)
            poll.look(began, _looks(connection).__next__)
            answer = read_answer(lambda: _received(connection, began + ANSWER))
            poll.came(began)
        except BaseException:
            connection.close()
            raise
        if answer.lasting:
            with self._state:
                self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _taken(self) -> socket.socket | None:
        with self._state:
            if self._process != os.getpid():  # forked: these are the parent's
                self._process = os.getpid()
                self._idle.clear()
            return self._idle.pop() if self._idle else None

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(ANSWER)
            place, directory = reachable(self._path)
            try:
                connection.connect(place)
            finally:
                if directory is not None:
                    os.close(directory)
        except BaseException:
            connection.close()
            raise
        return connection


def _looks(connection: socket.socket) -> Iterator[bool | None]:
    """Whether something has come, each time anew; None: nothing yet. Costs nothing before the first look."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    while True:
        yield bool(waiting.poll(0)) or None


def _received(connection: socket.socket, deadline: float) -> bytes:
    """What comes next, in the time that the whole answer has: one that trickles in is none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
    return connection.recv(1 << 16)
