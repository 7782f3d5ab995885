"""The verbs of endpoints: sandboxes attached and detached, ports published and withdrawn, and kept for a
container before."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from cellwall.api.opened import Opened
from cellwall.engine.arguments import AttachOptions, parse_key, read_attach, read_binding, read_requests
from cellwall.engine.attachments.attach import attach_endpoints
from cellwall.engine.readiness import standing
from cellwall.engine.requests import AttachRequest
from cellwall.model.addresses import Protocol
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding

if TYPE_CHECKING:
    from cellwall.engine.ports.led import Proxies
    from cellwall.model.reserved import Reservation


class EndpointVerbs(Opened):
    """What `Wall` does with endpoints."""

    def attach(self, container_id: str, **options: Unpack[AttachOptions]) -> Endpoint:
        """Attach one sandbox; packets pass when this returns. Idempotent for equal arguments.

        `netns` is the path of its network namespace; None makes one, kept at the endpoint's `netns` until detach. It is
        under the policy of its tenant and, if it has one, under its own from its first packet on: `policy`, a value or
        a document, or `block_network` and `allow_list` in its place.
        Raises InvalidSpec, NotFound (no such namespace), AlreadyExists, Conflict, Exhausted, Unsupported.
        """
        asked = read_attach(container_id, **options)
        if not asked.names_policy:
            return self.attach_many([asked.request])[0]
        from cellwall.engine.policies.calls import attach_under, own_policy

        written = own_policy(asked, self.settings.openings)
        return attach_under(written, asked.request, lambda request: self._attach([request])[0])

    def attach_many(self, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
        """Attach all of these, in one transaction, or none."""
        if any(request.policy is not None for request in read_requests(requests)):
            from cellwall.engine.policies.calls import refuse_other_values

            refuse_other_values(requests)
        return self._attach(requests)

    def _attach(self, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
        return self._place(requests, attach_endpoints)

    def detach(self, container_id: str, *, ifname: str = "eth0") -> bool:
        """Close the endpoint: nothing of it passes when this returns, and its ports are free. False where there was
        none. Its links and flows are cleaned up by later operations, or `close`."""
        return self.detach_many([parse_key(container_id, ifname)]) == 1

    def detach_many(self, keys: Sequence[EndpointKey]) -> int:
        """Close all of these; returns how many there were."""
        from cellwall.engine.attachments.detach import detach_endpoints

        with self._caller.turn():
            if not self._site.journal.count():
                return 0
            return self._caller.close(lambda site: detach_endpoints(site, keys), leaves_links=True)

    def clear_up(self) -> None:
        """Delete the links that detaches of this wall left behind, for who cannot wait for a later operation: a sandbox
        that stays is without its interface then. `close` does the same."""
        self._caller.leave()

    def expose(
        self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0", user: int | None = None
    ) -> Endpoint:
        """Publish a port of an attached endpoint; as `auto:80` by any free port of `node.reserved_ports`, which is
        reserved for it, too. `user`: as for `reserve_ports`. Idempotent. NotFound, InvalidSpec, Conflict; Unsupported
        and Unavailable where a proxy is asked for and cannot be had."""
        from cellwall.engine.ports.expose import expose_port
        from cellwall.engine.requests import validate_host_ports

        key, wanted = parse_key(container_id, ifname), read_binding(binding, auto=True)
        with self._caller.turn():
            validate_host_ports(wanted, self._caller.take_those_to_open_by())
            return self._caller.open([wanted], lambda site, found: expose_port(site, found, key, wanted, user))

    def expose_port(
        self, container_id: str, host_port: int, port: int, protocol: Protocol = "tcp", *, ifname: str = "eth0"
    ) -> Endpoint:
        """Publish one host port: from the node interface only, through B9-FORWARD."""
        return self.expose(container_id, PortBinding(protocol, host_port, port), ifname=ifname)

    def unexpose(self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0") -> Endpoint:
        """Withdraw a port; flows that came by it stop at their next packet. Tolerates a port that is not published."""
        from cellwall.engine.ports.expose import unexpose_port

        key, wanted = parse_key(container_id, ifname), read_binding(binding)
        with self._caller.turn():
            return self._caller.close(lambda site: unexpose_port(site, key, wanted), leaves_links=False)

    # ------------------------------------------------------------------ reserved ports

    def reserve_ports(
        self,
        container_id: str,
        count: int = 1,
        *,
        tenant: str | None = None,
        seconds: float = 600.0,
        user: int | None = None,
        sees: Callable[[str], bool] = lambda tenant: True,
    ) -> "Reservation":
        """Have `count` free host ports kept for a container, which need not be attached yet. Idempotent: those that it
        has are among them, and what is more than that is given back.

        Each is held by a bound socket of TCP and UDP, of this wall until it is closed, and is this container's alone to
        publish: of this `tenant`, or of none. They wait for it for `seconds`, and are given back by `release_ports` and
        when the container is detached. `user`: the uid of who asks, where that is not root, as these have a share;
        `sees`: which tenants' ports that one may be told of.
        Raises InvalidSpec, AlreadyExists where ports are reserved for a container of that id and of another tenant, and
        Exhausted where `node.reserved_ports` has no more, or the node, the tenant or who asks may not.
        """
        from cellwall.engine.ports.reservations import refuse_anothers, reserve_ports
        from cellwall.model.reserved import validate_reservation

        validate_reservation(container_id, tenant, count, seconds)
        with self._caller.turn():
            self._caller.take_those_to_open_by()
            refuse_anothers(self._site, container_id, tenant or "", sees)
            return reserve_ports(self._site, container_id, tenant or "", count, seconds, user)

    def release_ports(self, container_id: str, *, tenant: str | None = None) -> int:
        """Give back what is reserved for a container, of whatever `tenant`; how many ports there were. What it has
        published by them stays so. Idempotent."""
        from cellwall.engine.ports.reservations import release_ports

        with self._caller.turn():
            return release_ports(self._site, container_id, tenant)

    def reservations(self) -> "tuple[Reservation, ...]":
        """What is reserved, by container."""
        from cellwall.engine.ports.reservations import reservations

        with self._caller.mutex:
            return reservations(self._site)

    def hold_reserved(
        self,
        given: Mapping[int, Sequence[int]],
        keep: Callable[[int, Sequence[int]], None],
        forget: Callable[[int], None],
    ) -> list[str]:
        """Hold all that is reserved on this node, for who writes here from now on; a line for each port that another
        program has by now. `given`: descriptors, by port, that an earlier process held some by, and had kept; `keep`
        and `forget` are told of every port from here on. Before anybody is answered."""
        from cellwall.engine.ports.reservations import hold_reserved

        with self._caller.turn():
            self._site.holds().attend(keep, forget)
            return hold_reserved(self._site, given)

    def run_proxies(self, proxies: "Proxies") -> None:
        """For who runs proxies between the address families: these are told of all that is on record, and at the end
        of every turn from now on, and asked before anything goes on record that is theirs to serve. Nothing that asks
        for one is published without."""
        with self._caller.turn():
            self._caller.run_proxies(proxies)

    def expire_reserved(self) -> list[str]:
        """Give back what waited for its container in vain, a line each. Idempotent."""
        from cellwall.engine.ports.reservations import expire_reserved

        with self._caller.turn():
            return expire_reserved(self._site)

    # ------------------------------------------------------------------ what there is

    def endpoints(self) -> tuple[Endpoint, ...]:
        """All attached endpoints, by container and interface."""
        with self._caller.mutex:
            attached = self._site.journal.endpoints("attached")
        return tuple(endpoint for endpoint in attached if not endpoint.key.pooled)

    def published_ports(self) -> dict[str, int]:
        """How many host ports the endpoints of each tenant have, of TCP and UDP together: for who bounds that."""
        with self._caller.mutex:
            return self._site.journal.published_ports()

    def proxied_ports(self) -> dict[str, int]:
        """How many host ports of each tenant are served by a proxy: for who bounds that."""
        found: dict[str, int] = {}
        with self._caller.mutex:
            for endpoint in self._site.journal.proxied():
                own = sum(binding.proxy != 0 for binding in endpoint.bindings)
                found[endpoint.tenant] = found.get(endpoint.tenant, 0) + own
        return found

    def unpublished_ports(self, container_id: str, tenant: str, spared: Collection[int] = ()) -> int:
        """How many of the ports that are reserved for a container are neither published nor `spared`: for who bounds
        that, as any free port is one of these first."""
        from cellwall.engine.ports.auto_ports import unpublished_ports

        with self._caller.mutex:
            return len(unpublished_ports(self._site, container_id, tenant, spared))

    def endpoint(self, container_id: str, *, ifname: str = "eth0") -> Endpoint:
        """One attached endpoint; NotFound."""
        from cellwall.engine.ports.expose import attached_endpoint

        with self._caller.mutex:
            return attached_endpoint(self._site, parse_key(container_id, ifname))

    def verify(self, container_id: str, *, ifname: str = "eth0") -> tuple[str, ...]:
        """What is wrong with one endpoint, on the node and inside its sandbox; empty: nothing. Changes nothing.
        NotFound; Conflict where the node is not up."""
        endpoint, outside = self.verify_outside(container_id, ifname=ifname)
        return (*outside, *self.verify_inside(endpoint))

    def verify_outside(
        self, container_id: str, *, ifname: str = "eth0", alone: bool = False
    ) -> tuple[Endpoint, tuple[str, ...]]:
        """One attached endpoint, and what is wrong with it on the node, or with it `alone`; NotFound."""
        from cellwall.engine.ports.expose import attached_endpoint
        from cellwall.engine.repair.verify import verify_outside

        with self._caller.turn():
            endpoint = attached_endpoint(self._site, parse_key(container_id, ifname))
            self._caller.take_as_laid()
            found = standing(self._site)
            return endpoint, verify_outside(self._site, found, endpoint, alone=alone)

    def verify_inside(self, endpoint: Endpoint) -> tuple[str, ...]:
        """What is wrong with it inside its sandbox. It takes no turn, for whoever is root in there has a say in how
        long it takes. NotFound where it was detached meanwhile."""
        from cellwall.engine.repair.verify import verify_inside

        return verify_inside(self._site, endpoint)
