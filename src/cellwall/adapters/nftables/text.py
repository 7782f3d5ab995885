"""Loading a ruleset as text, through the nft program.

Owns: the one call of `nft`, and the reading of its complaints back to numbered lines of what was loaded. nft validates
and the kernel commits the whole text or nothing. Imported only where text is loaded: elements need none of this.
"""

import errno
import os
import re

from cellwall.adapters.netlink.nfnetlink import NFPROTO, NFT_MSG_NEWTABLE, batch_is_valid, nft_message
from cellwall.adapters.netlink.nlattr import attribute_text
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Netlink
from cellwall.adapters.process import find_program, run
from cellwall.errors import KernelError, printable

_COMPLAINT = re.compile(r"(?:/dev/stdin|-|<stdin>):(\d+):\d+(?:-\d+)?: Error: (.*)")
_SHOWN = 5
_LONGEST_LINE = 160
# What the kernel answers to a ruleset, by the text nft makes of it.
_ERRNOS = {
    os.strerror(number): number
    for number in (
        errno.EPERM,
        errno.ENOENT,
        errno.EEXIST,
        errno.EBUSY,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.ENOMEM,
        errno.ELOOP,
        errno.EMLINK,
        errno.ENOTEMPTY,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.EAFNOSUPPORT,
    )
}


def refusal(netfilter: Netlink) -> str:
    """See `engine.nftables.contracts.Rules.refusal`."""
    if find_program("nft") is None:
        return "the program 'nft' is not installed"
    for family in ("inet", "arp", "bridge"):
        table = nft_message(NFT_MSG_NEWTABLE, NFPROTO[family], attribute_text(1, "cellwall-probe"), flags=NLM_F_CREATE)
        if not batch_is_valid(netfilter, [table], f"ask for the {family} family"):
            return f"the kernel has no nf_tables for the {family} family"
    return ""


def load_text(text: str) -> None:
    """One transaction. KernelError with the refused lines (EINVAL where nft itself refused them); Unsupported where
    nft is not installed."""
    completed = run(["nft", "-f", "-"], input=text.encode(), check=False)
    if completed.returncode != 0:
        said = completed.stderr.decode(errors="replace")
        raise KernelError(_errno_of(said), "load the ruleset", _refused_lines(text, said))


def _errno_of(said: str) -> int:
    """nft prints strerror at the end of a complaint of the kernel's."""
    for line in said.splitlines():
        number = _ERRNOS.get(line.rpartition(": ")[2])
        if number is not None:
            return number
    return errno.EINVAL


def _refused_lines(text: str, said: str) -> str:
    lines = text.splitlines()
    complaints = _COMPLAINT.findall(said)
    shown = []
    for number, message in complaints[:_SHOWN]:
        line = lines[int(number) - 1].strip() if int(number) <= len(lines) else ""
        shown.append(f"line {number}: {printable(line, _LONGEST_LINE)}: {message}")
    if len(complaints) > _SHOWN:
        shown.append(f"and {len(complaints) - _SHOWN} more")
    return "; ".join(shown) or " ".join(said.split())
