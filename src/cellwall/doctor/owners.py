"""Who owns our tables in nftables: nobody on a node without a daemon, the daemon on one that has it."""

from collections.abc import Iterator

from cellwall.doctor.finding import Finding
from cellwall.doctor.observation import Observation
from cellwall.model.settings import Settings


def owners(host: Observation, _: Settings) -> Iterator[Finding]:
    """About the tables that stand."""
    owned = {table: port for table, port in host.owners.items() if port}
    if owned and not host.daemon:
        named = ", ".join(f"{table} (netlink port {port})" for table, port in sorted(owned.items()))
        yield Finding(
            "error",
            "owner",
            f"another program owns {named}",
            "the wall stands, and neither up nor attach nor down can change it",
            "end that program: its tables stay, and are taken over by whatever is called next",
        )
    if host.owners and not owned and host.daemon:
        yield Finding(
            "note",
            "owner",
            "no process owns the wall's tables",
            "whoever flushes all rules takes them away, until the daemon lays them again; the latch holds meanwhile",
            "see that cellwall-daemon.service runs; before Linux 6.9 tables can have no owner",
        )
