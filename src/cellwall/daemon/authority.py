"""Who may ask for what: root for anything, the members of a group for what `daemon.allow` grants them.

A grant is about tenants. What belongs to a tenant that none of a caller's grants covers does not exist for that caller,
so that no answer tells of it. Nothing that is the node's can be granted (`cellwall.model.grants`). Pure.
"""

from collections.abc import Iterable, Sequence

import msgspec

from cellwall.engine.requests import AttachRequest
from cellwall.errors import Conflict, Forbidden, Taken
from cellwall.model.endpoint import AUTO, PortBinding
from cellwall.model.grants import Grant
from cellwall.wire.calls import Verb

ANYBODYS: frozenset[Verb] = frozenset({"version"})
"""What whoever may connect may ask."""

NO_GROUP = -1
"""Of who is granted nothing."""

FIRST_PORT = 1024
"""Of host ports those from here on are for members: below are the node's own services, also while one of them starts
anew, or is to be started one day."""


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end of a connection, as the kernel noted when it was made."""

    uid: int
    groups: frozenset[int] = frozenset()
    pid: int = 0

    @property
    def root(self) -> bool:
        return self.uid == 0

    def __str__(self) -> str:
        return f"uid {self.uid} (pid {self.pid})"


class Granted(msgspec.Struct, frozen=True):
    """A grant, and the number of its group."""

    gid: int
    grant: Grant


class Authority:
    """What `daemon.allow` says. Without grants all but the version is root's."""

    def __init__(self, granted: Iterable[Granted] = ()) -> None:
        self._granted = tuple(granted)

    def regrant(self, granted: Iterable[Granted]) -> None:
        """These, and no others, from now on: also for who is connected already."""
        self._granted = tuple(granted)

    def permit(self, peer: Peer, verb: Verb, tenant: str | None = None) -> None:
        """Raise Forbidden unless the caller may do this for that tenant; None: for any tenant at all."""
        if not self.allows(peer, verb, tenant):
            whose = "" if tenant is None else f" for tenant {tenant}"
            raise Forbidden(f"{verb}{whose}: {peer} may not (daemon.allow)")

    def allows(self, peer: Peer, verb: Verb, tenant: str | None = None) -> bool:
        """The same as an answer: for what is left out of a list, or not found, where it is no."""
        if peer.root or verb in ANYBODYS:
            return True
        return any(
            granted.gid in peer.groups
            and verb in granted.grant.verbs
            and (tenant is None or granted.grant.covers(tenant))
            for granted in self._granted
        )

    def permit_own(self, peer: Peer, verb: Verb, tenant: str | None, whose: object) -> None:
        """`permit`, where who is not root has to say whose it is. Without a tenant anybody's of that id would do."""
        if tenant is None and not peer.root:
            raise Forbidden(f"{verb}: {whose}: {peer} must name a tenant (daemon.allow)")
        self.permit(peer, verb, tenant)

    def permit_ports(self, peer: Peer, bindings: Iterable[PortBinding]) -> None:
        """Raise Forbidden for a port that is not for members."""
        for binding in bindings:
            if not peer.root and binding.host_port != AUTO and binding.host_port < FIRST_PORT:
                raise Forbidden(f"expose: {binding}: {peer} may have host ports from {FIRST_PORT} on")

    def groups_of(self, peer: Peer) -> frozenset[int]:
        """The groups by which the caller is granted anything."""
        return frozenset(granted.gid for granted in self._granted) & peer.groups

    def admit(self, peer: Peer, requests: Sequence[AttachRequest]) -> tuple[AttachRequest, ...]:
        """What of a caller's requests goes to the wall; Forbidden where one may not be asked for.

        Who is not root names a tenant: without one any container of that id would do, whoever has it. Its namespaces
        must be its own, which is judged when they are opened.
        """
        if peer.root:
            return tuple(requests)
        for request in requests:
            if request.tenant is None:
                raise Forbidden(f"attach: {request.key}: {peer} must name a tenant (daemon.allow)")
            self.permit(peer, "attach", request.tenant)
            if request.bindings:
                self.permit(peer, "expose", request.tenant)
                self.permit_ports(peer, request.bindings)
            if request.policy is not None:
                self.permit(peer, "policy", request.tenant)
        return tuple(msgspec.structs.replace(request, user=peer.uid) for request in requests)

    def told(self, peer: Peer, error: Exception) -> Exception:
        """The error as this caller may know it: without the name of a container that may be another tenant's."""
        return Conflict(error.what) if isinstance(error, Taken) and not peer.root else error
