"""The Python API: one node, and what can be done with it.

    with Wall.open() as wall:
        web = wall.attach("web", tenant="acme", expose=["8080:80"])
        print(web.netns, web.address4)

Every method that changes something takes the writer lock of the node for its own length, so any number of processes
and threads may use the same node. Modules that only `up` and reconcile need are imported when these run: a front end
that attaches one container starts a process for it.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import msgspec

from cellwall.adapters.lock import KEPT
from cellwall.composition import compose, configured
from cellwall.config import (
    Paths,
    drop_mode_record,
    load_settings,
    paths_for,
    record_daemon,
    record_settings,
    recorded_mode,
    unlike_configured,
)
from cellwall.engine.attach import attach_endpoints
from cellwall.engine.backend import Holder
from cellwall.engine.caller import Caller, Configured
from cellwall.engine.readiness import standing, take_backend
from cellwall.engine.requests import AttachRequest, Reconciled, Status, UpReport
from cellwall.engine.site import Site
from cellwall.errors import CellwallError, InvalidSpec, NoPrivilege, Unavailable
from cellwall.model.addresses import Address, Protocol
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding, parse_binding
from cellwall.model.identifiers import parse_container_id, parse_link_name, parse_tenant
from cellwall.model.policy import Policy, PolicyRecord
from cellwall.model.settings import Settings

if TYPE_CHECKING:
    from cellwall.engine.policy_calls import Document

__all__ = [
    "AttachRequest",
    "Endpoint",
    "EndpointKey",
    "PortBinding",
    "Reconciled",
    "Status",
    "UpReport",
    "Wall",
    "take_back",
]

HANDOVER = 5.0
"""For how many seconds a daemon waits for the writer lock when it begins: longer than one operation takes, and than a
daemon that is asked to end."""


class Wall:
    """One node. Open it with `Wall.open`; it holds a few netlink sockets and the journal until `close`."""

    def __init__(self, paths: Paths, site: Site, close: Callable[[], None], configured: Configured) -> None:
        self.paths = paths
        self._caller = Caller(site, configured, paths.in_run())
        self._release = close

    @property
    def settings(self) -> Settings:
        """The settings that this wall goes by: those in force, as of its last operation."""
        return self._caller.site.settings

    @classmethod
    def open(
        cls,
        *,
        root: str | os.PathLike[str] | None = None,
        settings: Settings | Callable[[], Settings] | None = None,
        closing: bool = False,
        serving: bool = False,
        reading: bool = False,
    ) -> "Wall":
        """Open the node of the calling thread's network namespace.

        `root` puts configuration, state and run paths under one directory; `settings` None reads the configuration.
        The configuration, or a function that reads settings, is read by `up`, `reconcile` and the first attach of a
        node that is not up; everything else goes by the settings in force. Given settings that differ from these are
        refused with Conflict by whatever opens something, until `up` is called. `closing`: for who only closes; a
        wrong configuration of a node that is not up is then taken for an empty one.

        Where a daemon writes, anybody else is refused with Unavailable. `serving`: for that daemon, which holds the
        writer lock until `close` and puts itself on record; its threads take turns in the order in which they ask.
        Conflict where another daemon has the lock. `reading`: for who only lists, beside it; what takes a turn is
        refused.

        Raises InvalidSpec for a wrong configuration of a node that is not up, and NoPrivilege without root; touches
        nothing in the kernel.
        """
        paths = paths_for(root)
        if os.geteuid() != 0:
            raise NoPrivilege("cellwall changes links and firewall rules: it needs root")
        if not (serving or reading) and recorded_mode(paths) == "daemon":
            raise Unavailable(KEPT)
        if isinstance(settings, Settings):
            settings.validate()
            fixed = configured(lambda: settings, given=record_settings(settings))
            wall = cls(paths, *compose(settings, paths, serving=serving), fixed)
        else:
            read = settings or (lambda: load_settings(paths, environ=os.environ, overrides={}).settings)
            wall = cls(paths, *compose(Settings(), paths, serving=serving), configured(read))
        try:
            if serving:
                wall._serve()
            if not isinstance(settings, Settings):
                wall._caller.begin(closing=closing)
        except BaseException:
            wall._release()
            raise
        return wall

    def _serve(self) -> None:
        from cellwall.adapters.turns import FairMutex

        self._caller.mutex = FairMutex()
        self._site.lock.hold(HANDOVER)
        record_daemon(self.paths)

    def close(self) -> None:
        """Delete the links that detaches left behind, release sockets and journal. Idempotent."""
        try:
            self._caller.leave()
        finally:
            self._release()

    def __enter__(self) -> "Wall":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the node

    def up(self, *, settings: Settings | None = None) -> UpReport:
        """Rules, bridge and kernel settings as configured, or by the given settings in place of what is configured.
        Idempotent; the first attach does the same, but for a bridge that beta9 left with running containers: that only
        `up` takes over."""
        from cellwall.adapters.predecessor import Beta9Traces
        from cellwall.engine.adopt import bring_up

        with self._caller.turn():
            self._caller.take_configured(settings)
            return bring_up(self._site, Beta9Traces())

    def down(self, *, force: bool = False) -> None:
        """Remove rules and bridge. Conflict while endpoints are attached, unless `force` detaches them."""
        from cellwall.engine.teardown import take_down

        with self._caller.turn():
            self._caller.take_those_in_force(self._site.foundation())
            take_down(self._site, force=force)

    def uninstall(self, *, force: bool = False) -> None:
        """`down`, and remove the record of this node: nothing of cellwall is left but its configuration."""
        import shutil

        self.down(force=force)
        self.close()
        aside = self.paths.run.with_name(f"{self.paths.run.name}-{os.getpid()}")
        with suppress(OSError):  # in one step: who waits for the lock, as a watch does, would make it anew in there
            os.rename(self.paths.run, aside)
        for place in (aside, self.paths.run, self.paths.socket_directory):
            shutil.rmtree(place, ignore_errors=True)
        if os.path.realpath(self.paths.base) != "/":  # the system's /run is not ours, however empty
            with suppress(OSError):
                os.rmdir(self.paths.run.parent)

    def status(self) -> Status:
        """Live compared with desired, as the settings in force say; changes nothing."""
        from cellwall.engine.reconcile import status

        with self._caller.turn():
            found = self._caller.take_as_laid()
            report = status(self._site)
        doubts = unlike_configured(self._caller.configured.now, found.settings if found else None)
        return msgspec.structs.replace(report, warnings=(*doubts, *report.warnings))

    def reconcile(self) -> Reconciled:
        """Repair exactly the difference between live and desired, as configured now."""
        from cellwall.engine.reconcile import reconcile

        with self._caller.turn():
            found = self._site.foundation()
            self._caller.take_those_to_open_by()
            self._caller.take_configured()
            take_backend(self._site, found)
            return reconcile(self._site)

    def resume(self) -> tuple[str, ...]:
        """Take over what an earlier daemon left: finish or undo what it had begun, lay the rules anew where another
        version of the program laid them or the node changed, and repair what differs; what that was, a line each. By
        the settings in force. Nothing on a node that is not up. Idempotent."""
        from cellwall.engine.reconcile import resume

        with self._caller.turn():
            if self._site.foundation() is None:
                return ()
            self._caller.take_those_to_open_by()
            return resume(self._site)

    def settings_to_open_by(self) -> Settings:
        """The settings that an attach would go by now: those in force; of a node that is not up, what is configured."""
        with self._caller.turn():
            return self._caller.take_those_to_open_by()

    @property
    def mechanism(self) -> str:
        """What holds the wall, in a few words: nftables, or which iptables. "" on a node that is not up."""
        return str(self.holder or "")

    @property
    def holder(self) -> Holder | None:
        """What holds the wall; None on a node that is not up."""
        with self._caller.mutex:
            found = self._site.foundation()
            return None if found is None else self._site.mechanism(found.backend).holder(found.laid)

    def holds(self) -> bool:
        """Whether live is what is desired, for who asks over and over: without the lock, for which attaches would wait.
        What is changing meanwhile makes it False."""
        from cellwall.engine.reconcile import status

        with self._caller.mutex:
            try:
                found = self._caller.take_as_laid()
                right = found is None or (self._site.current() is not None and not status(self._site).drift)
                return right and self._site.journal.in_place()
            except (CellwallError, OSError):  # a table that somebody replaces is missing for a moment
                return False

    def repair(self, *, unseen: bool = False, patience: float | None = None) -> tuple[str, ...]:
        """Repair the difference between live and desired, by the settings in force, whatever is configured by now; what
        it was, a line each. Nothing on a node that is not up. `unseen`: damage was seen, without a comparison first.
        `patience`: for how many seconds to wait for another writer, which is then Unavailable (`adapters.lock.Held`).
        Dismissed where another version of the program laid the wall, or cellwall was uninstalled."""
        from cellwall.engine.reconcile import repair

        with self._caller.turn(patience):
            found = self._caller.take_as_laid()
            return () if found is None else repair(self._site, found, unseen=unseen)

    def close_unjudged(self, *, patience: float | None = None) -> bool:
        """Where somebody took away what judges packets, and left the pins that vouch for frames, have these vouch for
        nobody until a repair: what a repair begins with, for who has to wait with the rest. True where it was done.
        `patience`: as of `repair`."""
        from cellwall.engine.reconcile import close_unjudged

        with self._caller.turn(patience):
            found = self._site.foundation()
            return found is not None and close_unjudged(self._site, found)

    def close_beside_writers(self) -> bool | None:
        """`close_unjudged` without the writer lock, so that whatever another process does meanwhile, for however long,
        keeps nothing open. None where it takes the lock: in iptables, and while rules are being laid."""
        from cellwall.engine.reconcile import close_beside_writers

        with self._caller.mutex:
            found = self._site.foundation()
            if found is None or not self._site.journal.in_place():
                return False
            return close_beside_writers(self._site, found)

    def own(self, descriptor: int | None = None) -> str:
        """Nobody but this process writes our tables in nftables from now on: a flush of all rules passes them over, and
        who means them is refused. "" where it is so, else why it cannot be. What nft laid is drift then, for `repair`.

        `descriptor`: the `owning_descriptor` of a process before this one, to go on with. Idempotent.
        """
        from cellwall.engine.owning import own_rules

        with self._caller.turn():
            self._caller.take_those_in_force(self._site.foundation())
            return own_rules(self._site, descriptor)

    @property
    def owning_descriptor(self) -> int:
        """For whose life our tables are owned: a duplicate of it keeps them so beyond this process."""
        return self._site.rules.descriptor()

    def dns(self) -> tuple[Address, ...]:
        """The resolvers that sandboxes are told. Conflict on a node that is not up, which decides it."""
        with self._caller.mutex:
            standing(self._site)
            body = self._site.journal.get("dns") or b"[]"
        return tuple(ip_address(text) for text in msgspec.json.decode(body, type=list[str]))

    def enable_bridge_netfilter(self) -> bool:
        """Let bridged frames traverse the IP hooks too; False, with a warning logged, where the kernel cannot."""
        from cellwall.engine.foundation import enable_bridge_netfilter

        with self._caller.turn():
            self._caller.be_ready()
            return enable_bridge_netfilter(self._site)

    def setup_security_chain(self) -> UpReport:
        """B9-FORWARD and everything around it, as configured; the same as `up`."""
        return self.up()

    # ------------------------------------------------------------------ endpoints

    def attach(
        self,
        container_id: str,
        *,
        netns: str | os.PathLike[str] | None = None,
        ifname: str = "eth0",
        tenant: str | None = None,
        expose: Sequence[PortBinding | str] = (),
        address4: IPv4Address | None = None,
        address6: IPv6Address | None = None,
        mac: int | None = None,
        policy: "Policy | Document | None" = None,
        block_network: bool | None = None,
        allow_list: Sequence[str] | None = None,
    ) -> Endpoint:
        """Attach one sandbox; packets pass when this returns. Idempotent for equal arguments.

        `netns` is the path of its network namespace; None makes one, kept at the endpoint's `netns` until detach. It is
        under the policy of its tenant and, if it has one, under its own from its first packet on: `policy`, a value or
        a document, or `block_network` and `allow_list` in its place.
        Raises InvalidSpec, NotFound (no such namespace), AlreadyExists, Conflict, Exhausted, Unsupported.
        """
        request = AttachRequest(
            container_id=container_id,
            netns=None if netns is None else os.fspath(netns),
            ifname=ifname,
            tenant=tenant,
            address4=address4,
            address6=address6,
            mac=mac,
            bindings=tuple(_binding(entry) for entry in expose),
        )
        if policy is None and block_network is None and allow_list is None:
            return self.attach_many([request])[0]
        from cellwall.engine.policy_calls import attach_under, own_policy

        written = own_policy(policy, block_network, allow_list, self.settings.openings)
        return attach_under(written, request, lambda request: self.attach_many([request])[0])

    def attach_many(self, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
        """Attach all of these, in one transaction, or none."""
        from cellwall.engine.requests import validate_request

        bindings = [binding for request in requests for binding in request.bindings]
        with self._caller.turn():
            settings = self._caller.take_those_to_open_by()
            for request in requests:
                validate_request(request, settings)
            return self._caller.open(bindings, lambda site, found: attach_endpoints(site, found, requests))

    def detach(self, container_id: str, *, ifname: str = "eth0") -> bool:
        """Close the endpoint: nothing of it passes when this returns, and its ports are free. False where there was
        none. Its links and flows are cleaned up by later operations, or `close`."""
        return self.detach_many([_key(container_id, ifname)]) == 1

    def detach_many(self, keys: Sequence[EndpointKey]) -> int:
        """Close all of these; returns how many there were."""
        from cellwall.engine.detach import detach_endpoints

        with self._caller.turn():
            if not self._site.journal.count():
                return 0
            return self._caller.close(lambda site: detach_endpoints(site, keys), leaves_links=True)

    def clear_up(self) -> None:
        """Delete the links that detaches of this wall left behind, for who cannot wait for a later operation: a sandbox
        that stays is without its interface then. `close` does the same."""
        self._caller.leave()

    def expose(self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0") -> Endpoint:
        """Publish a port of an attached endpoint. Idempotent. NotFound, InvalidSpec, Conflict."""
        from cellwall.engine.expose import expose_port
        from cellwall.engine.requests import validate_host_ports

        key, wanted = _key(container_id, ifname), _binding(binding)
        with self._caller.turn():
            validate_host_ports(wanted, self._caller.take_those_to_open_by())
            return self._caller.open([wanted], lambda site, found: expose_port(site, found, key, wanted))

    def expose_port(
        self, container_id: str, host_port: int, port: int, protocol: Protocol = "tcp", *, ifname: str = "eth0"
    ) -> Endpoint:
        """Publish one host port: from the node interface only, through B9-FORWARD."""
        return self.expose(container_id, PortBinding(protocol, host_port, port), ifname=ifname)

    def unexpose(self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0") -> Endpoint:
        """Withdraw a port; flows that came by it stop at their next packet. Tolerates a port that is not published."""
        from cellwall.engine.expose import unexpose_port

        key, wanted = _key(container_id, ifname), _binding(binding)
        with self._caller.turn():
            return self._caller.close(lambda site: unexpose_port(site, key, wanted), leaves_links=False)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """All attached endpoints, by container and interface."""
        with self._caller.mutex:
            return self._site.journal.endpoints("attached")

    def endpoint(self, container_id: str, *, ifname: str = "eth0") -> Endpoint:
        """One attached endpoint; NotFound."""
        from cellwall.engine.expose import attached_endpoint

        with self._caller.mutex:
            return attached_endpoint(self._site, _key(container_id, ifname))

    def verify(self, container_id: str, *, ifname: str = "eth0") -> tuple[str, ...]:
        """What is wrong with one endpoint, on the node and inside its sandbox; empty: nothing. Changes nothing.
        NotFound; Conflict where the node is not up."""
        endpoint, outside = self.verify_outside(container_id, ifname=ifname)
        return (*outside, *self.verify_inside(endpoint))

    def verify_outside(
        self, container_id: str, *, ifname: str = "eth0", alone: bool = False
    ) -> tuple[Endpoint, tuple[str, ...]]:
        """One attached endpoint, and what is wrong with it on the node, or with it `alone`; NotFound."""
        from cellwall.engine.expose import attached_endpoint
        from cellwall.engine.verify import verify_outside

        with self._caller.turn():
            endpoint = attached_endpoint(self._site, _key(container_id, ifname))
            self._caller.take_as_laid()
            found = standing(self._site)
            return endpoint, verify_outside(self._site, found, endpoint, alone=alone)

    def verify_inside(self, endpoint: Endpoint) -> tuple[str, ...]:
        """What is wrong with it inside its sandbox. It takes no turn, for whoever is root in there has a say in how
        long it takes. NotFound where it was detached meanwhile."""
        from cellwall.engine.verify import verify_inside

        return verify_inside(self._site, endpoint)

    # ------------------------------------------------------------------ policies

    def set_policy(
        self, policy: "Policy | Document", *, tenant: str = "", container: str = "", ifname: str = "eth0"
    ) -> PolicyRecord:
        """Replace the policy of a tenant, with endpoints or without, or of an attached endpoint: it is in force when
        this returns, for open flows, too. Idempotent. InvalidSpec names the place, of a document as a JSON pointer;
        NotFound for a container that is not attached. What fails leaves the policy before in force."""
        from cellwall.engine.policy_calls import set_policy

        return set_policy(self._caller, _subject(tenant, container, ifname), policy)

    def patch_policy(
        self, patch: "Document", *, tenant: str = "", container: str = "", ifname: str = "eth0"
    ) -> PolicyRecord:
        """`set_policy` of what a JSON merge patch (RFC 7396) makes of the policy in force."""
        from cellwall.engine.policy_calls import patch_policy

        return patch_policy(self._caller, _subject(tenant, container, ifname), patch)

    def update_network_permissions(
        self,
        container: str,
        *,
        block_network: bool = False,
        allow_list: Sequence[str] | None = None,
        ifname: str = "eth0",
    ) -> PolicyRecord:
        """Replace what an endpoint may open by nothing, by these networks or, with neither, by all that its tenant may;
        what else its policy says stays."""
        changes: dict[str, object] = {"block_network": block_network}
        if allow_list is not None:
            changes["allow_list"] = list(allow_list)
        return self.patch_policy(changes, container=container, ifname=ifname)

    def remove_policy(self, *, tenant: str = "", container: str = "", ifname: str = "eth0") -> bool:
        """Nothing but the floor and the other tier holds when this returns; False where there was none."""
        from cellwall.engine.policy_calls import remove_policy

        return remove_policy(self._caller, _subject(tenant, container, ifname))

    def policy(self, *, tenant: str = "", container: str = "", ifname: str = "eth0") -> PolicyRecord | None:
        """The policy in force; None of a tenant that has none. NotFound for a container that is not attached."""
        from cellwall.engine.policy_calls import policy_of

        return policy_of(self._caller, _subject(tenant, container, ifname))

    def policies(self) -> dict[str, PolicyRecord]:
        """The policies of all tenants that have one, by tenant."""
        from cellwall.engine.policy_calls import policies_of_tenants

        return policies_of_tenants(self._caller)

    @property
    def _site(self) -> Site:
        return self._caller.site


def check_policy(policy: "Policy | Document", settings: Settings, *, endpoint: bool = False) -> Policy:
    """The policy, if `Wall.set_policy` would take it for a tenant, or for an `endpoint`, under these settings on the
    node of the calling thread; InvalidSpec. Needs no privilege and changes nothing."""
    from cellwall.adapters.facts import NodeObserver
    from cellwall.engine.policy_calls import check_policy

    observer = NodeObserver()
    try:
        node = observer.observe().own_prefixes(settings.network.bridge)
    finally:
        observer.close()
    return check_policy(policy, settings, node, endpoint=endpoint)


def take_back(paths: Paths) -> bool:
    """Leave a node to whom the configuration names, where a daemon is on record and none lives. False where one does.

    For who was told by the configuration that no daemon is wanted any more: one that died could not say so itself.
    """
    from cellwall.adapters.lock import WriterLock

    try:
        with WriterLock(paths.in_run("writer.lock"), timeout=0):  # what a daemon takes before it goes on record
            drop_mode_record(paths)
    except Unavailable:
        return False
    return True


def _key(container_id: str, ifname: str) -> EndpointKey:
    return EndpointKey(parse_container_id(container_id), parse_link_name(ifname, "ifname"))


def _subject(tenant: str, container: str, ifname: str) -> EndpointKey | str:
    """Whose policy it is."""
    if bool(tenant) == bool(container):
        raise InvalidSpec("policy", tenant or container, "is of a tenant or of a container: name one of them")
    return parse_tenant(tenant) if tenant else _key(container, ifname)


def _binding(entry: PortBinding | str) -> PortBinding:
    return parse_binding(entry) if isinstance(entry, str) else entry
