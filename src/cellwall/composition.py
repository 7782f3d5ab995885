"""The composition root: adapters of the calling thread's network namespace under one engine."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

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
            iptables=_iptables_of(opened),
            in_force=InForce(),
            kept=_kept_in(paths.in_state(), opened),
            holds=_holds(opened),
            meters=_meters(opened),
        )
        return site, opened.pop_all().close


def configured(read: Callable[[], Settings], *, given: str | None = None) -> Configured:
    """What a caller would bring into force; `given`: the text of settings that it handed over as they are."""
    return Configured(read, given, record_settings, recorded_settings)


def _kept_in(directory: str, opened: ExitStack) -> "Callable[[], KeptPolicies]":
    """Made at its first use, for most nodes have no policies; closed with the rest."""
    made: list[KeptPolicies] = []

    def kept() -> "KeptPolicies":
        if not made:
            from cellwall.adapters.record.policies import KeptPolicies

            made.append(KeptPolicies(directory))
        return made[0]

    def close() -> None:
        for one in made:
            one.close()

    opened.callback(close)
    return kept


def _meters(opened: ExitStack) -> "Callable[[], Meters]":
    """Made at its first use, for who attaches reads no figures; closed with the rest."""
    made: list[Meters] = []

    def meters() -> "Meters":
        if not made:
            from cellwall.adapters.node.meters import Meters

            made.append(Meters())
        return made[0]

    def close() -> None:
        for one in made:
            one.close()

    opened.callback(close)
    return meters


def _holds(opened: ExitStack) -> "Callable[[], PortHolds]":
    """Made at its first use, for few reserve ports; closed with the rest, which ends what it holds."""
    made: list[PortHolds] = []

    def holds() -> "PortHolds":
        if not made:
            from cellwall.adapters.port_holds import PortHolds

            made.append(PortHolds())
        return made[0]

    def close() -> None:
        for one in made:
            one.close()

    opened.callback(close)
    return holds


def _iptables_of(opened: ExitStack) -> "Callable[[], Host]":
    """Made at its first use, for most nodes never ask for it; closed with the rest."""
    made: list[Host] = []

    def host() -> "Host":
        if not made:
            from cellwall.adapters.iptables.glance import Glances
            from cellwall.adapters.iptables.ipset import IpSets
            from cellwall.adapters.iptables.tables import XtTables
            from cellwall.engine.iptables.host import Host

            made.append(Host(XtTables(), IpSets(), Glances()))
        return made[0]

    def close() -> None:
        for one in made:
            one.sets.close()
            one.glance.close()

    opened.callback(close)
    return host
