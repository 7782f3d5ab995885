"""The verbs of a node as a whole: up and down, live compared with desired, and repaired."""

import os
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

import msgspec

from cellwall.api.opened import Opened
from cellwall.config import unlike_configured
from cellwall.engine.backend import Holder
from cellwall.engine.readiness import standing, take_backend
from cellwall.engine.requests import Reconciled, Status, UpReport
from cellwall.model.addresses import Address
from cellwall.model.settings import Settings

if TYPE_CHECKING:
    from cellwall.audit.events import Log


class NodeVerbs(Opened):
    """What `Wall` does with the node."""

    def up(self, *, settings: Settings | None = None) -> UpReport:
        """Rules, bridge and kernel settings as configured, or by the given settings in place of what is configured.
        Idempotent; the first attach does the same, but for a bridge that beta9 left with running containers: that only
        `up` takes over."""
        from cellwall.adapters.other_programs.predecessor import Beta9Traces
        from cellwall.engine.predecessor.adopt import bring_up

        with self._caller.turn():
            self._caller.take_configured(settings)
            return bring_up(self._site, Beta9Traces())

    def down(self, *, force: bool = False) -> None:
        """Remove rules and bridge. Conflict while endpoints are attached, unless `force` detaches them."""
        from cellwall.engine.node.teardown import take_down

        with self._caller.turn():
            self._caller.take_those_in_force(self._site.foundation())
            take_down(self._site, force=force)

    def log(
        self,
        *,
        tenant: str = "",
        container: str = "",
        since: str = "",
        until: str = "",
        reason: str = "",
        limit: int | None = None,
    ) -> "Log":
        """The latest events of what sandboxes tried, as far as a daemon recorded them: of a tenant, of a container, of
        a time or of rules whose words have `reason` in them; 1,000 where nobody says how many. Times are RFC 3339, or
        so long ago: 15m, 2h, 7d."""
        import time

        from cellwall.adapters.events.reading import latest
        from cellwall.audit.events import DEFAULT_LIMIT
        from cellwall.audit.selection import parse_limit, parse_selection

        asked = parse_selection(
            tenant=tenant, container=container, since=since, until=until, reason=reason, now=time.time()
        )
        return latest(self.paths.in_log(), asked, limit=parse_limit(str(DEFAULT_LIMIT if limit is None else limit)))

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
        from cellwall.engine.ports.captures import captured_translations
        from cellwall.engine.repair.reconcile import status

        with self._caller.turn():
            found = self._caller.take_as_laid()
            report = status(self._site)
            # Not a part of what a watch looks at over and over: it may take a program.
            led = captured_translations(self._site, found) if found else ()
        doubts = unlike_configured(self._caller.configured.now, found.settings if found else None)
        return msgspec.structs.replace(report, warnings=(*doubts, *report.warnings, *led))

    def reconcile(self) -> Reconciled:
        """Repair exactly the difference between live and desired, as configured now."""
        from cellwall.engine.repair.reconcile import reconcile

        with self._caller.turn():
            found = self._site.foundation()
            self._caller.take_those_to_open_by()
            self._caller.take_configured()
            take_backend(self._site, found)
            return reconcile(self._site)

    def dns(self) -> tuple[Address, ...]:
        """The resolvers that sandboxes are told. Conflict on a node that is not up, which decides it."""
        with self._caller.mutex:
            standing(self._site)
            body = self._site.journal.get("dns") or b"[]"
        return tuple(ip_address(text) for text in msgspec.json.decode(body, type=list[str]))

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

    def settings_to_open_by(self) -> Settings:
        """The settings that an attach would go by now: those in force; of a node that is not up, what is configured."""
        with self._caller.turn():
            return self._caller.take_those_to_open_by()

    def enable_bridge_netfilter(self) -> bool:
        """Let bridged frames traverse the IP hooks too; False, with a warning logged, where the kernel cannot."""
        from cellwall.engine.node.foundation import enable_bridge_netfilter

        with self._caller.turn():
            self._caller.be_ready()
            return enable_bridge_netfilter(self._site)

    def setup_security_chain(self) -> UpReport:
        """B9-FORWARD and everything around it, as configured; the same as `up`."""
        return self.up()
