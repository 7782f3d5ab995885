"""What a kernel and its iptables have, tried out in network namespaces that end with what tries it.

A module that is not loaded yet is loaded by that, and no table of the node is made. Sets are asked about by netlink: a
rule that asks one would need it there.
"""

import os
from collections.abc import Iterator, Sequence

from cellwall.adapters.conntrack.timeouts import has_timeouts
from cellwall.adapters.interfaces.port_trial import try_port_flags
from cellwall.adapters.iptables.ipset import has_type
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.adapters.process import find_program, run
from cellwall.errors import KernelError
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import Family

Restore = Sequence[str]
"""The argument vector of a restore program."""

_BRIDGE_CALLS = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")
_SETS = ("hash:ip", "hash:net", "hash:ip,port", "hash:net,port", "hash:ip,port,net")
_BOTH: tuple[Family, ...] = ("ipv4", "ipv6")

_NEEDED: dict[str, tuple[tuple[Family, ...], str, str]] = {
    "conntrack": (_BOTH, "filter", "-m conntrack --ctstate NEW --ctdir ORIGINAL -j DROP"),
    "addrtype": (_BOTH, "filter", "-m addrtype --dst-type LOCAL -j DROP"),
    "pkttype": (_BOTH, "raw", "-m pkttype --pkt-type unicast -j DROP"),
    "u32": (_BOTH, "raw", "-m u32 --u32 3&0xFF=6,17 -j DROP"),
    "connlimit": (_BOTH, "filter", "-m connlimit --connlimit-above 9 -j DROP"),
    "hashlimit": (
        _BOTH,
        "filter",
        "-m hashlimit --hashlimit-above 9/sec --hashlimit-mode srcip --hashlimit-name b9t -j DROP",
    ),
    "physdev": (_BOTH, "filter", "-m physdev --physdev-is-bridged -j DROP"),
    "comment": (_BOTH, "filter", '-m comment --comment "x" -j DROP'),
    "mark": (_BOTH, "mangle", "-m mark --mark 0x1 -j MARK --set-xmark 0x1/0x1"),
    "connmark": (_BOTH, "mangle", "-m connmark --mark 0x1 -j CONNMARK --save-mark"),
    "TCPMSS": (_BOTH, "mangle", "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"),
    "REJECT": (_BOTH, "filter", "-p tcp -j REJECT --reject-with tcp-reset"),
    "DNAT": (("ipv4",), "nat", "-p tcp -j DNAT --to-destination 192.0.2.1:80-81/7000"),
    "MASQUERADE": (("ipv4",), "nat", "-p tcp -j MASQUERADE --to-ports 1024-2047 --random-fully"),
    "ttl": (("ipv4",), "mangle", "-m ttl --ttl-lt 2 -j DROP"),
    "hl": (("ipv6",), "raw", "-m hl --hl-eq 255 -j DROP"),
    "icmp6": (("ipv6",), "raw", "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j DROP"),
    "ipv6header": (("ipv6",), "mangle", "-m ipv6header --soft --header hop-by-hop -j DROP"),
}
"""Matches and targets that a whole wall has rules with: families, a table, a rule."""

_OPTIONAL: dict[str, tuple[tuple[Family, ...], str]] = {
    "ipv6": (("ipv6",), "*filter\n:B9-T - [0:0]\n-A B9-T -j DROP\nCOMMIT\n"),
    "program": (
        _BOTH,
        '*mangle\n:B9-T - [0:0]\n-A B9-T -m bpf --bytecode "1,6 0 0 0" -j DROP\n'
        "-A B9-T -j CONNMARK --restore-mark --nfmask 0xffff --ctmask 0xffff0000 --right-shift-mark 16\nCOMMIT\n",
    ),
    "packet_log": (
        _BOTH,
        "".join(
            f"*{table}\n:B9-T - [0:0]\n-A B9-T -m hashlimit --hashlimit-upto 9/sec --hashlimit-mode dstip"
            ' --hashlimit-name b9t -j NFLOG --nflog-group 1 --nflog-size 128 --nflog-prefix "x y"\nCOMMIT\n'
            for table in ("filter", "raw", "mangle")
        ),
    ),
    "frame_log": (
        ("bridge",),
        "*nat\n:B9-T ACCEPT\n-A B9-T --limit 9/sec --limit-burst 9"
        ' --nflog-prefix "x y" --nflog-group 1 --nflog-range 128 -j CONTINUE\nCOMMIT\n',
    ),
    "security": (_BOTH, "*security\n:B9-T - [0:0]\n-A B9-T -j DROP\nCOMMIT\n"),
    "priority": (("ipv4",), "*mangle\n:B9-T - [0:0]\n-A B9-T -j CLASSIFY --set-class 0:0\nCOMMIT\n"),
    "nat6": (("ipv6",), "*nat\n:B9-T - [0:0]\n-A B9-T -j MASQUERADE\nCOMMIT\n"),
    "frames": (
        ("bridge",),
        "*nat\n:B9-T ACCEPT\n-A B9-T -p ARP -j arpreply --arpreply-mac 02:00:00:00:00:01\n"
        "-A B9-T -j mark --mark-or 0x1 --mark-target ACCEPT\nCOMMIT\n",
    ),
}
"""Features by the names of `XtFeatures`, with the families that must have them."""


class Trials:
    """What loads, or works. What once did is not tried again by a process that stays, while its program is the same
    file: repairs wait for each of them. What did not is, as a module may have come."""

    def __init__(self) -> None:
        self._loaded: set[tuple[str, int, int, str]] = set()
        self._locks = False

    def loads(self, argv: Restore, text: str) -> bool:
        """Whether the program takes that, in a namespace that ends with it."""
        program = find_program(argv[0])
        if program is None:
            return False
        file = os.stat(program)
        trial = (program, file.st_ino, file.st_mtime_ns, text)
        if trial not in self._loaded:
            # By its path: unshare looks into the caller's PATH only.
            tried = run(["unshare", "--net", "--", program, *argv[1:]], input=text.encode(), check=False)
            if tried.returncode != 0:
                return False
            self._loaded.add(trial)
        return True

    def locks(self) -> bool:
        """Whether bridge ports can be locked. KernelError where none can be made to try it."""
        self._locks = self._locks or "locked" not in try_port_flags()
        return self._locks


def features(restore: dict[Family, Restore], trials: Trials) -> XtFeatures:
    """Which of the features there are that a wall can do without. What both families need is asked of IPv6 only where
    there is an ip6tables at all."""
    tried = {
        (name, family): trials.loads(restore[family], text)
        for name, (families, text) in _OPTIONAL.items()
        for family in families
    }
    ipv6 = tried["ipv6", "ipv6"]
    has = {
        name: all(tried[name, family] for family in families if family != "ipv6" or ipv6 or families == ("ipv6",))
        for name, (families, _) in _OPTIONAL.items()
    }
    with open_netfilter_socket() as netfilter:
        timeouts = has_timeouts(netfilter)
    return XtFeatures(ipmac=has_type("hash:ip,mac"), timeouts=timeouts, **has)


def lacking(restore: dict[Family, Restore], trials: Trials) -> tuple[str, ...]:
    """What no wall can do without, and is not there; of IPv6 only where there is an ip6tables at all."""
    missing = [f"sets of type {name}" for name in _SETS if not has_type(name)]
    missing += [] if find_program("ipset") else ["the program ipset"]
    missing += _lacking_between_ports(restore["bridge"], trials)
    families = [family for family in _BOTH if family == "ipv4" or trials.loads(restore[family], _OPTIONAL["ipv6"][1])]
    for family in families:
        if not trials.loads(restore[family], _whole(family)):
            missing += [
                f"{name} ({restore[family][0]})"
                for name, (theirs, table, rule) in _NEEDED.items()
                if family in theirs and not trials.loads(restore[family], _table(table, [rule]))
            ]
    return tuple(missing)


def _lacking_between_ports(frames: Restore, trials: Trials) -> Iterator[str]:
    """The pins say (MAC, address) and not whose port it is: that nobody has another's MAC is the lock of the port's.
    What one port sends to another over the bridge is judged by ebtables, or by iptables where the bridge calls it."""
    try:
        if not trials.locks():
            yield "locked bridge ports (Linux 5.18)"
    except KernelError as error:
        yield f"a bridge port to try ({error})"
    if _is_bridged() or trials.loads(frames, _OPTIONAL["frames"][1]):
        return
    if not (ProcSysctls().load_module("br_netfilter") and _is_bridged()):
        yield "ebtables and br_netfilter, of which it needs one"


def _is_bridged() -> bool:
    """Whether the bridge calls iptables, or can be told to."""
    present = {name: ProcSysctls().read(name) for name in _BRIDGE_CALLS}
    return all(
        value == "1" or (value is not None and os.access(f"/proc/sys/{name}", os.W_OK))
        for name, value in present.items()
    )


def _whole(family: Family) -> str:
    tables: dict[str, list[str]] = {}
    for families, table, rule in _NEEDED.values():
        if family in families:
            tables.setdefault(table, []).append(rule)
    return "".join(_table(table, rules) for table, rules in tables.items())


def _table(name: str, rules: Sequence[str]) -> str:
    return "\n".join([f"*{name}", ":B9-T - [0:0]", *(f"-A B9-T {rule}" for rule in rules), "COMMIT", ""])
