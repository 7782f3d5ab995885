"""The gate in front of every lab, and the proof afterwards that the machine is as it was.

Owns: what must hold before a lab starts (root, a writable /run/netns, a free prefix), that no link of a lab
has its other end in the namespace the lab was started from, and the comparison of that namespace's links,
nft ruleset and forwarding switches from before and after. "The machine" is the namespace of the thread that
starts the lab. Refuses to guess who did it: on a busy host another program may have changed the machine
meanwhile. The error says what differs, and an operator decides.
"""

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from cellwall.adapters import process
from cellwall.adapters.sandbox import netns
from cellwall.errors import LabError
from cellwall.lab import links, namespaces

_SWITCHES = ("net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/ipv6/conf/all/forwarding")


class Snapshot(msgspec.Struct, frozen=True):
    """What must be equal before and after a lab: one line of text per fact."""

    links: tuple[str, ...]
    ruleset: tuple[str, ...]
    switches: tuple[str, ...]


def check_machine() -> None:
    """Raise LabError where no lab can start: not root, or nowhere to put namespaces."""
    if os.geteuid() != 0:
        raise LabError("a lab needs root: it creates network namespaces")
    try:
        namespaces.prepare_directory()
    except OSError as error:
        raise LabError(f"a lab needs {namespaces.RUN} to put its namespaces in: {error.strerror}") from error
    if not os.access(namespaces.RUN, os.W_OK):
        raise LabError(f"a lab needs {namespaces.RUN} to be writable")


def check_prefix_free(prefix: str) -> None:
    """Raise LabError where namespaces of that prefix exist."""
    taken = namespaces.namespaces_of(prefix)
    if taken:
        raise LabError(f"prefix: {prefix!r}: is in use by {taken[0]}")


def snapshot() -> Snapshot:
    """The links, nft ruleset (without counters) and forwarding switches of the calling thread's namespace."""
    return Snapshot(links=_link_facts(), ruleset=_ruleset(), switches=_switches())


def check_unchanged(before: Snapshot, after: Snapshot) -> None:
    """Raise LabError with the differing lines where the machine is not as it was."""
    differing: list[str] = []
    for field in Snapshot.__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        lines = difflib.unified_diff(old, new, n=0, lineterm="")
        differing += [f"{field} {line}" for line in list(lines)[2:] if not line.startswith("@@")]
    if differing:
        raise LabError(f"the machine's own namespace changed while a lab was open: {'; '.join(differing[:20])}")


def check_enclosed(paths: Iterable[Path], home: int) -> None:
    """Raise LabError where a link in one of the namespaces has its other end in `home` (a descriptor)."""
    for path in paths:
        with netns.enter(path):
            # The dump comes first: it is what gives the namespace of a peer its local id.
            found = links.links()
            home_id = links.netns_id(home)
        if home_id < 0:
            continue
        for link in found:
            if link.peer_netns == home_id:
                raise LabError(f"{path.name}: link {link.name} has its other end in the machine's own namespace")


def _link_facts() -> tuple[str, ...]:
    # Without operstate and carrier: a cable may be pulled while a lab is open.
    return tuple(
        f"{link.index}: {link.name} {link.mac} mtu {link.mtu} master {link.master} up {link.up}"
        for link in links.links()
    )


def _ruleset() -> tuple[str, ...]:
    if process.find_program("nft") is None:
        return ()
    return tuple(_without_meters(process.run(["nft", "-s", "list", "ruleset"]).text.splitlines()))


def _without_meters(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a ruleset without the elements of dynamic sets: packets add these, and time takes them away."""
    dynamic = within = False
    for line in lines:
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        if word in ("set", "map"):
            dynamic = False
        elif word == "flags":
            dynamic = "dynamic" in line
        within = within or (dynamic and word == "elements")
        if not within:
            yield line
        elif line.endswith("}"):
            within = False


def _switches() -> tuple[str, ...]:
    values = []
    for name in _SWITCHES:
        with suppress(FileNotFoundError):  # no IPv6 in this kernel
            values.append(f"{name} = {Path('/proc/sys', name).read_text().strip()}")
    return tuple(values)
