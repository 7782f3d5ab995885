"""iptables, ip6tables and ebtables of one variant: `engine.iptables.contracts.Tables`.

Owns: which programs there are, the calls of their restore and save, and the reading of their complaints back to the
lines of what was loaded. What they and the kernel have is `iptables_probes`.
"""

import errno
import os
import re
from collections.abc import Sequence

from cellwall.adapters.conntrack.timeouts import make_timeouts
from cellwall.adapters.iptables import probes
from cellwall.adapters.iptables.iptables_nft import delete_table, make_tables, table_order
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.adapters.process import find_program, run
from cellwall.engine.iptables.contracts import Variant
from cellwall.errors import CellwallError, KernelError, NoPrivilege, printable
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import Family, TableName, others
from cellwall.lower.xt.timeouts import FlowTimeouts

_COMPLAINT = re.compile(r"line:? (\d+)")
_SHOWN = 3
_LONGEST_LINE = 160
_PATIENCE = "10"  # seconds for whoever holds the lock of the legacy tables
_MISSING = ("does not exist", "doesn't exist", "No chain/target/match by that name", os.strerror(errno.ENOENT))
_NO_PRIVILEGE = ("Permission denied (you must be root)", os.strerror(errno.EPERM))


class XtTables:
    """The programs of the network namespace that the calling thread is in."""

    def __init__(self) -> None:
        self._trials = probes.Trials()

    def variants(self) -> tuple[Variant, ...]:
        """See `Tables.variants`."""
        both: tuple[Variant, ...] = ("nft", "legacy")
        known = [variant for variant in both if not self.lacking(variant)]
        return tuple(sorted(known, key=lambda variant: (-self._others(variant), both.index(variant))))

    def installed(self) -> tuple[Variant, ...]:
        """See `Tables.installed`."""
        both: tuple[Variant, ...] = ("nft", "legacy")
        verbs = ("save", "restore")
        return tuple(one for one in both if all(find_program(_program(one, "ipv4", verb)) for verb in verbs))

    def lacking(self, variant: Variant) -> tuple[str, ...]:
        """See `Tables.lacking`."""
        program = _program(variant, "ipv4", "restore")
        if find_program(program) is None:
            return (program,)
        return probes.lacking(_all_restores(variant), self._trials)

    def features(self, variant: Variant) -> XtFeatures:
        """See `Tables.features`."""
        return probes.features(_all_restores(variant), self._trials)

    def save(self, variant: Variant, family: Family) -> str:
        """See `Tables.save`."""
        program = _program(variant, family, "save")
        if find_program(program) is None and family == "bridge":
            return ""
        completed = run([program], check=False)
        if completed.returncode != 0:
            raise KernelError(errno.EINVAL, program, " ".join(completed.stderr.decode(errors="replace").split()))
        return completed.text

    def spelled(self, variant: Variant, family: Family, text: str, sets: str, timeouts: Sequence[FlowTimeouts]) -> str:
        """See `Tables.spelled`."""
        from cellwall.adapters.throwaway import in_new_namespace

        def attempt() -> str:
            with open_netfilter_socket() as netfilter:
                make_timeouts(netfilter, timeouts)
            run(["ipset", "restore"], input=sets.encode())
            self.restore(variant, family, text)
            return self.save(variant, family)

        try:
            return in_new_namespace(attempt) if text else ""
        except CellwallError:
            return ""

    def order(self) -> tuple[tuple[Family, str], ...]:
        """See `Tables.order`."""
        with open_netfilter_socket() as netfilter:
            return table_order(netfilter)

    def make(self, places: Sequence[tuple[Family, TableName]]) -> None:
        """See `Tables.make`."""
        with open_netfilter_socket() as netfilter:
            make_tables(netfilter, places)

    def delete(self, family: Family, name: TableName) -> None:
        """See `Tables.delete`."""
        with open_netfilter_socket() as netfilter:
            delete_table(netfilter, family, name)

    def restore(self, variant: Variant, family: Family, text: str) -> None:
        """See `Tables.restore`."""
        if not text:
            return
        argv = _restore(variant, family)
        # One that waits for the lock would otherwise lay this after whoever comes next has laid something else.
        completed = run(argv, input=text.encode(), check=False, bound=True)
        if completed.returncode != 0:
            said = completed.stderr.decode(errors="replace")
            if any(words in said for words in _NO_PRIVILEGE):
                raise NoPrivilege(f"{argv[0]}: changing the rules needs CAP_NET_ADMIN")
            raise KernelError(_errno_of(said), argv[0], _refused_lines(text, said))

    def _others(self, variant: Variant) -> int:
        """How many rules the host has in a variant that are not ours. iptables-legacy-save prints the tables that there
        are and makes none."""
        families: tuple[Family, ...] = ("ipv4", "ipv6")
        programs = [_program(variant, family, "save") for family in families]
        return sum(others(run([one], check=False).text) for one in programs if find_program(one) is not None)


def _program(variant: Variant, family: Family, verb: str) -> str:
    if family == "bridge":  # the other ebtables cannot load a part
        return f"ebtables-nft-{verb}" if find_program(f"ebtables-nft-{verb}") else f"ebtables-{verb}"
    return f"{'iptables' if family == 'ipv4' else 'ip6tables'}-{variant}-{verb}"


def _restore(variant: Variant, family: Family) -> list[str]:
    waiting = [] if family == "bridge" else ["--wait", _PATIENCE]
    return [_program(variant, family, "restore"), "--noflush", *waiting]


def _all_restores(variant: Variant) -> dict[Family, Sequence[str]]:
    families: tuple[Family, ...] = ("ipv4", "ipv6", "bridge")
    return {family: _restore(variant, family) for family in families}


def _errno_of(said: str) -> int:
    return errno.ENOENT if any(words in said for words in _MISSING) else errno.EINVAL


def _refused_lines(text: str, said: str) -> str:
    """The lines that a program complains about, and its words. nft's variant says a line in a transaction: then it may
    be that of the COMMIT."""
    lines = text.splitlines()
    numbers = sorted({int(number) for number in _COMPLAINT.findall(said) if 0 < int(number) <= len(lines)})
    shown = [f"line {number}: {printable(lines[number - 1].strip(), _LONGEST_LINE)}" for number in numbers[:_SHOWN]]
    return "; ".join([*shown, printable(" ".join(said.split()), 2 * _LONGEST_LINE)])
