"""The metrics of one daemon: what is counted, what is read, and the text that is made of both."""

import os

from prometheus_client import CollectorRegistry, ProcessCollector

from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.api import Wall
from cellwall.audit.tally import Tallied
from cellwall.config import Paths
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.fdstore.owner_socket import OwnerSocket
from cellwall.daemon.metrics.events import Events
from cellwall.daemon.metrics.exposition import Exposition, Now
from cellwall.daemon.metrics.sampling import Partings, Sampler
from cellwall.daemon.metrics.totals import TotalsFile
from cellwall.daemon.node import Node


class Metrics:
    """`writing` is the wall of who closes endpoints, `looking` one for this alone. `most`: tenants that are told apart.
    `registry` is for whoever else counts something in the daemon."""

    def __init__(self, paths: Paths, writing: Wall, looking: Wall, bounds: Bounds, *, most: int = 100) -> None:
        self.registry = CollectorRegistry()
        self.events = Events(self.registry)
        ProcessCollector(registry=self.registry)
        boot = ProcSysctls().read("kernel/random/boot_id") or ""
        file = TotalsFile(os.fspath(paths.in_run("totals")), boot)
        sampler = Sampler(looking, self.events, file, most=most)
        writing.keep_figures(Partings(sampler))
        self._daemon: tuple[Node, OwnerSocket | None] | None = None
        self.exposition = Exposition(
            self.registry, sampler.sample, self._now, fresh=bounds.scrape_seconds, limit=bounds.reads
        )

    def look_at(self, node: Node, owner: OwnerSocket | None) -> None:
        """Whose queue, pool and record is told of, and who knows whether our tables are owned."""
        self._daemon = node, owner

    def end(self) -> None:
        """Wait for what has begun. Idempotent."""
        self.exposition.end()

    def _now(self) -> Now:
        if self._daemon is None:
            return Now()
        node, owner = self._daemon
        auditor = node.auditor
        return Now(
            waiting=node.writer.waiting,
            busy=node.writer.busy_for(),
            owned=owner is not None and owner.owned,
            pool=node.pool.figures,
            recording=auditor is not None and not auditor.trouble,
            tallied=Tallied({}, {}, 0) if auditor is None else auditor.tallied,
        )
