"""The Python API, and the composition root: adapters of the calling process's network namespace under one engine.

    with Wall.open() as wall:
        web = wall.attach("web", tenant="acme", expose=["8080:80"])
        print(web.netns, web.address4)

Every method that changes something takes the writer lock of the node for its own length, so any number of processes
and threads may use the same node. Modules that only `up` and reconcile need are imported when these run: a front end
that attaches one container starts a process for it.
"""

import os
from _thread import RLock  # what threading.RLock is; the module around it costs a CNI call 1 ms
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from cellwall import __version__
from cellwall.adapters.facts import NodeObserver
from cellwall.adapters.links import LinkLayer
from cellwall.adapters.lock import WriterLock
from cellwall.adapters.namespaces import ProcNamespaces
from cellwall.adapters.nftables import NftRules
from cellwall.adapters.owner_files import OwnerFiles
from cellwall.adapters.store import Store
from cellwall.adapters.sysctls import ProcSysctls
from cellwall.config import Paths, load_settings, paths_for, record_settings, recorded_settings, unlike_configured
from cellwall.engine.attach import attach_endpoints
from cellwall.engine.readiness import (
    leave_bare,
    load_schema,
    make_closable,
    make_ready,
    over_lost_tables,
    over_other_sets,
)
from cellwall.engine.requests import AttachRequest, Reconciled, Status, UpReport
from cellwall.engine.site import Foundation, Site
from cellwall.errors import CellwallError, Conflict, InvalidSpec, NoPrivilege, Unavailable
from cellwall.model.addresses import Address, Protocol
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding, parse_binding
from cellwall.model.identifiers import parse_container_id, parse_link_name
from cellwall.model.settings import Settings

__all__ = ["AttachRequest", "Endpoint", "EndpointKey", "PortBinding", "Reconciled", "Status", "UpReport", "Wall"]


class Wall:
    """One node. Open it with `Wall.open`; it holds a few netlink sockets and the journal until `close`."""

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        site: Site,
        close: Callable[[], None],
        read: Callable[[], Settings] | None = None,
    ) -> None:
        self.settings = settings
        self.paths = paths
        self._site = site
        self._close = close
        self._given = None if read else record_settings(settings)
        self._read = read or (lambda: settings)
        self._mutex = RLock()
        self._closed_some = False

    @classmethod
    def open(
        cls,
        *,
        root: str | os.PathLike[str] | None = None,
        settings: Settings | Callable[[], Settings] | None = None,
        closing: bool = False,
    ) -> "Wall":
        """Open the node of the calling thread's network namespace.

        `root` puts configuration, state and run paths under one directory; `settings` None reads the configuration.
        The configuration, or a function that reads settings, is read by `up`, `reconcile` and the first attach of a
        node that is not up; everything else goes by the settings in force. Given settings that differ from these are
        refused with Conflict by whatever opens something, until `up` is called. `closing`: for who only closes; a
        wrong configuration of a node that is not up is then taken for an empty one.
        Raises InvalidSpec for a wrong configuration of a node that is not up, and NoPrivilege without root; touches
        nothing in the kernel.
        """
        paths = paths_for(root)
        if os.geteuid() != 0:
            raise NoPrivilege("cellwall changes links and firewall rules: it needs root")
        if isinstance(settings, Settings):
            settings.validate()
            return _compose(cls, settings, paths, None)
        read = settings or (lambda: load_settings(paths, environ=os.environ, overrides={}).settings)
        wall = _compose(cls, Settings(), paths, read)
        try:
            wall._begin(closing=closing)
        except BaseException:
            wall._close()
            raise
        return wall

    def close(self) -> None:
        """Delete the links that detaches left behind, release sockets and journal. Idempotent."""
        try:
            if self._closed_some:
                self._delete_closed()
        finally:
            self._close()

    def __enter__(self) -> "Wall":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the node

    def up(self) -> UpReport:
        """Rules, bridge and kernel settings as configured. Idempotent; the first attach does the same."""
        from cellwall.engine.foundation import lay_foundation
        from cellwall.engine.recover import recover

        with self._writing():
            self._adopt(self._configured())
            report = lay_foundation(self._site)
            recover(self._site)
            return report

    def down(self, *, force: bool = False) -> None:
        """Remove rules and bridge. Conflict while endpoints are attached, unless `force` detaches them."""
        from cellwall.engine.teardown import take_down

        with self._writing():
            self._use_those_in_force(self._site.foundation())
            take_down(self._site, force=force)

    def uninstall(self, *, force: bool = False) -> None:
        """`down`, and remove the record of this node: nothing of cellwall is left but its configuration."""
        import shutil

        self.down(force=force)
        self.close()
        shutil.rmtree(self.paths.run, ignore_errors=True)
        if os.path.realpath(self.paths.base) != "/":  # the system's /run is not ours, however empty
            with suppress(OSError):
                os.rmdir(self.paths.run.parent)

    def status(self) -> Status:
        """Live compared with desired, as the settings in force say; changes nothing."""
        from cellwall.engine.reconcile import status

        with self._writing():
            found = self._site.foundation()
            self._use_those_in_force(found)
            load_schema(self._site, found)
            report = status(self._site)
        doubts = unlike_configured(self._configured, found.settings if found else None)
        return msgspec.structs.replace(report, warnings=(*doubts, *report.warnings))

    def reconcile(self) -> Reconciled:
        """Repair exactly the difference between live and desired, as configured now."""
        from cellwall.engine.reconcile import reconcile

        with self._writing():
            found = self._site.foundation()
            self._take_settings(found)
            self._adopt(self._configured())
            load_schema(self._site, found)
            return reconcile(self._site)

    def dns(self) -> tuple[Address, ...]:
        """The resolvers that sandboxes are told."""
        with self._writing():
            self._ready()
            body = self._site.journal.get("dns") or b"[]"
        return tuple(ip_address(text) for text in msgspec.json.decode(body, type=list[str]))

    def enable_bridge_netfilter(self) -> bool:
        """Let bridged frames traverse the IP hooks too; False, with a warning logged, where the kernel cannot."""
        from cellwall.engine.foundation import enable_bridge_netfilter

        with self._writing():
            self._ready()
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
    ) -> Endpoint:
        """Attach one sandbox; packets pass when this returns. Idempotent for equal arguments.

        `netns` is the path of its network namespace; None makes one, kept at the endpoint's `netns` until detach.
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
        return self.attach_many([request])[0]

    def attach_many(self, requests: Sequence[AttachRequest]) -> tuple[Endpoint, ...]:
        """Attach all of these, in one transaction, or none."""
        from cellwall.engine.requests import validate_request

        bindings = [binding for request in requests for binding in request.bindings]
        with self._writing():
            self._take_settings(self._site.foundation())
            for request in requests:
                validate_request(request, self.settings)
            found = self._ready(bindings)
            return over_lost_tables(self._site, found, lambda found: attach_endpoints(self._site, found, requests))

    def detach(self, container_id: str, *, ifname: str = "eth0") -> bool:
        """Close the endpoint: nothing of it passes when this returns, and its ports are free. False where there was
        none. Its links and flows are cleaned up by later operations, or `close`."""
        return self.detach_many([_key(container_id, ifname)]) == 1

    def detach_many(self, keys: Sequence[EndpointKey]) -> int:
        """Close all of these; returns how many there were."""
        from cellwall.engine.detach import detach_endpoints

        with self._writing():
            if not self._site.journal.count():
                return 0
            in_force = self._use_those_to_close_by(self._site.foundation())
            make_closable(self._site, in_force=in_force)
            self._closed_some = True
            return over_other_sets(self._site, lambda: detach_endpoints(self._site, keys), in_force=in_force)

    def expose(self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0") -> Endpoint:
        """Publish a port of an attached endpoint. Idempotent. NotFound, InvalidSpec, Conflict."""
        from cellwall.engine.expose import expose_port
        from cellwall.engine.requests import validate_host_ports

        key, wanted = _key(container_id, ifname), _binding(binding)
        with self._writing():
            self._take_settings(self._site.foundation())
            validate_host_ports(wanted, self.settings)
            found = self._ready([wanted])
            return over_lost_tables(self._site, found, lambda found: expose_port(self._site, found, key, wanted))

    def expose_port(
        self, container_id: str, host_port: int, port: int, protocol: Protocol = "tcp", *, ifname: str = "eth0"
    ) -> Endpoint:
        """Publish one host port: from the node interface only, through B9-FORWARD."""
        return self.expose(container_id, PortBinding(protocol, host_port, port), ifname=ifname)

    def unexpose(self, container_id: str, binding: PortBinding | str, *, ifname: str = "eth0") -> Endpoint:
        """Withdraw a port; flows that came by it stop at their next packet. Tolerates a port that is not published."""
        from cellwall.engine.expose import unexpose_port

        key, wanted = _key(container_id, ifname), _binding(binding)
        with self._writing():
            in_force = self._use_those_to_close_by(self._site.foundation())
            make_closable(self._site, in_force=in_force)
            return over_other_sets(self._site, lambda: unexpose_port(self._site, key, wanted), in_force=in_force)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """All attached endpoints, by container and interface."""
        with self._mutex:
            return self._site.journal.endpoints("attached")

    def endpoint(self, container_id: str, *, ifname: str = "eth0") -> Endpoint:
        """One attached endpoint; NotFound."""
        from cellwall.engine.expose import attached_endpoint

        with self._mutex:
            return attached_endpoint(self._site, _key(container_id, ifname))

    def verify(self, container_id: str, *, ifname: str = "eth0") -> tuple[str, ...]:
        """What is wrong with one endpoint, on the node and inside its sandbox; empty: nothing."""
        from cellwall.engine.expose import attached_endpoint
        from cellwall.engine.verify import verify_inside, verify_outside

        with self._writing():
            found = self._ready()
            endpoint = attached_endpoint(self._site, _key(container_id, ifname))
            outside = verify_outside(self._site, found, endpoint)
        return (*outside, *verify_inside(self._site, endpoint))

    # ------------------------------------------------------------------ inside

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._mutex, self._site.lock:
            if not self._site.journal.in_place():
                raise Unavailable(f"{self.paths.run}: cellwall was uninstalled meanwhile; open the wall again")
            bare = self._site.journal.get("foundation") is None
            try:
                yield
            except BaseException:
                if bare:
                    leave_bare(self._site)
                raise

    def _ready(self, bindings: Sequence[PortBinding] = ()) -> Foundation:
        self._take_settings(self._site.foundation())
        found = make_ready(self._site, bindings)
        self._closed_some = False
        return found

    def _begin(self, *, closing: bool) -> None:
        """The settings to begin with: those in force, or of a node that is not up what is configured."""
        found = self._site.foundation()
        if found is not None and self._use_those_in_force(found):
            return
        try:
            self._adopt(self._configured())
        except InvalidSpec:
            if not closing:
                raise

    def _take_settings(self, found: Foundation | None) -> None:
        """Those that an `up` put into force; of a node that is not up, the caller's. Enforcing one's own over another's
        would bring a policy back that somebody took away, without a word to anybody."""
        if found is not None and self._given not in (None, found.settings):
            raise Conflict("settings: are not those in force on the node; `up` would put them into force")
        if found is None or not self._use_those_in_force(found):
            self._adopt(self._configured())

    def _use_those_in_force(self, found: Foundation | None) -> bool:
        """False where another program's record of them cannot be read: the wall keeps what it has, as closing needs
        hardly any."""
        if found is not None and found.settings != self._site.settings_text:
            settings = recorded_settings(found.settings)
            if settings is None:
                return False
            self._adopt(settings)
        return True

    def _use_those_to_close_by(self, found: Foundation | None) -> bool:
        """Those in force; where they cannot be read what is configured, as an attach would. False where that is wrong,
        or not the caller's to say: closing goes on without."""
        if self._use_those_in_force(found):
            return True
        try:
            self._take_settings(found)
        except CellwallError:
            return False
        return True

    def _configured(self) -> Settings:
        settings = self._read()
        settings.validate()
        return settings

    def _adopt(self, settings: Settings) -> None:
        self.settings = settings
        self._site = msgspec.structs.replace(self._site, settings=settings, settings_text=record_settings(settings))

    def _delete_closed(self) -> None:
        """A front end that ends now leaves a sandbox that stays without its interface: another program may want the
        name. Whatever keeps this from being done, the next operation of anybody does it."""
        from cellwall.engine.drain import retire_closed

        self._closed_some = False
        with suppress(CellwallError, OSError), self._writing():
            retire_closed(self._site)
            self._site.links.reap()


def _compose(cls: type[Wall], settings: Settings, paths: Paths, read: Callable[[], Settings] | None) -> Wall:
    with ExitStack() as opened:
        node, links, rules, sysctls = NodeObserver(), LinkLayer(), NftRules(), ProcSysctls()
        for adapter in (node, links, rules):
            opened.callback(adapter.close)
        store = Store(paths.in_run(), sysctls.read("kernel/random/boot_id") or "")
        opened.callback(store.close)
        site = Site(
            settings=settings,
            settings_text=record_settings(settings),
            program=__version__,
            links=links,
            rules=rules,
            sysctls=sysctls,
            node=node,
            namespaces=ProcNamespaces(),
            journal=store,
            lock=WriterLock(paths.in_run("writer.lock")),
            netns_directory=paths.in_run("netns"),
            owners=OwnerFiles(paths.in_run()),
        )
        return cls(settings, paths, site, opened.pop_all().close, read)


def _key(container_id: str, ifname: str) -> EndpointKey:
    return EndpointKey(parse_container_id(container_id), parse_link_name(ifname, "ifname"))


def _binding(entry: PortBinding | str) -> PortBinding:
    return parse_binding(entry) if isinstance(entry, str) else entry
