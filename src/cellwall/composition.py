"""The composition root: adapters of the calling thread's network namespace under one engine."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from cellwall import __version__
from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.adapters.nftables.tables import NftRules
from cellwall.adapters.node.facts import NodeObserver
from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.adapters.other_programs.neighbours import OtherRules
from cellwall.adapters.record.lock import WriterLock
from cellwall.adapters.record.store import Store
from cellwall.adapters.sandbox.namespaces import ProcNamespaces
from cellwall.adapters.sandbox.owner_files import OwnerFiles
from cellwall.config import Paths, record_settings, recorded_settings
from cellwall.config.mode import mode_record
from cellwall.engine.caller import Configured
from cellwall.engine.site import InForce, Site
from cellwall.model.settings import Settings

if TYPE_CHECKING:
    from cellwall.adapters.node.meters import Meters
    from cellwall.adapters.port_holds import PortHolds
    from cellwall.adapters.record.policies import KeptPolicies
    from cellwall.engine.iptables.host import Host

T = TypeVar("T")


def compose(settings: Settings, paths: Paths, *, serving: bool = False) -> tuple[Site, Callable[[], None]]:
    """The site of the calling thread's network namespace, and what closes its adapters. The kernel stays as it is.
    `serving`: what is named comes from others, and no link that they made is followed."""
    with ExitStack() as opened:
        node, links, rules, sysctls = NodeObserver(), LinkLayer(), NftRules(), ProcSysctls()
        lock = WriterLock(paths.in_run("writer.lock"), daemon=mode_record(paths))
        opened.callback(lock.release)  # after all that writes is closed
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
            namespaces=ProcNamespaces(serving=serving),
            journal=store,
            lock=lock,
            netns_directory=paths.in_run("netns"),
            owners=OwnerFiles(paths.in_run()),
            neighbours=OtherRules(),
            iptables=_once(opened, _iptables),
            in_force=InForce(),
            kept=_once(opened, lambda closing: _kept_in(paths.in_state(), closing)),
            holds=_once(opened, _holds),
            meters=_once(opened, _meters),
        )
        return site, opened.pop_all().close


def configured(read: Callable[[], Settings], *, given: str | None = None) -> Configured:
    """What a caller would bring into force; `given`: the text of settings that it handed over as they are."""
    return Configured(read, given, record_settings, recorded_settings)


def _once(opened: ExitStack, make: Callable[[ExitStack], T]) -> Callable[[], T]:
    """What `make` gives, made at its first use, for most callers have none; what it leaves in its stack is closed with
    the rest."""
    made, closing = list[T](), opened.enter_context(ExitStack())

    def once() -> T:
        if not made:
            made.append(make(closing))
        return made[0]

    return once


def _kept_in(directory: str, closing: ExitStack) -> "KeptPolicies":
    from cellwall.adapters.record.policies import KeptPolicies

    kept = KeptPolicies(directory)
    closing.callback(kept.close)
    return kept


def _meters(closing: ExitStack) -> "Meters":
    from cellwall.adapters.node.meters import Meters

    meters = Meters()
    closing.callback(meters.close)
    return meters


def _holds(closing: ExitStack) -> "PortHolds":
    """Closed, it ends what it holds."""
    from cellwall.adapters.port_holds import PortHolds

    holds = PortHolds()
    closing.callback(holds.close)
    return holds


def _iptables(closing: ExitStack) -> "Host":
    from cellwall.adapters.iptables.glance import Glances
    from cellwall.adapters.iptables.ipset import IpSets
    from cellwall.adapters.iptables.tables import XtTables
    from cellwall.engine.iptables.host import Host

    host = Host(XtTables(), IpSets(), Glances())
    closing.callback(host.glance.close)
    closing.callback(host.sets.close)
    return host
