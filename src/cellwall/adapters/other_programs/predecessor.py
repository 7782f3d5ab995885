"""Reading what beta9's own networking left, and taking away what the wall replaces.

The inner end of a port is looked for in the namespaces that have a name: the kernel says by which id this namespace
knows that of the other end, and which id belongs to a name. So only namespaces of the bridge's own ports are entered.
"""

import errno
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from cellwall.adapters import process
from cellwall.adapters.iptables.legacy_names import legacy_tables
from cellwall.adapters.netlink.nlattr import attribute_text, attribute_u32, attributes, u32_of
from cellwall.adapters.netlink.rtnetlink import (
    IFF_UP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    LINK_HEADER_SIZE,
    RTM_SETLINK,
    get_addresses,
    get_links,
    link_header,
    link_message,
    open_route_socket,
    read_address,
    read_link,
)
from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.adapters.sandbox import netns
from cellwall.engine.contracts import ObservedLink
from cellwall.engine.predecessor.remains import InnerEnd, OldPort, OldRule, Remains, Removal
from cellwall.errors import CellwallError, KernelError
from cellwall.names import LINK_ALIAS

NAMESPACES = "/run/netns"
_RTM_GETNSID = 90  # linux/rtnetlink.h
_NETNSA_NSID, _NETNSA_FD = 1, 3  # linux/net_namespace.h
_NO_ID = 0xFFFFFFFF
_MOST = 4096
_LEGACY: dict[str, Literal[4, 6]] = {"iptables-legacy": 4, "ip6tables-legacy": 6}


class Beta9Traces:
    """`engine.predecessor.remains.Predecessor` of the network namespace that the calling thread is in."""

    def __init__(self, namespaces: str = NAMESPACES) -> None:
        self._namespaces = namespaces

    def observe(self, bridge: ObservedLink) -> Remains:
        """See `Predecessor.observe`."""
        with open_route_socket() as route:
            ports = [
                (link, attributes(reply.body, LINK_HEADER_SIZE))
                for reply in route.dump(get_links(), "read the links")
                if (link := read_link(reply)).master == bridge.index
            ]
            ids = {u32_of(found[IFLA_LINK_NETNSID]) for _, found in ports if IFLA_LINK_NETNSID in found}
            inner = dict(_inner_ends(route, self._namespaces, ids))
            dumped = route.dump(get_addresses(bridge.index), "read the bridge's addresses")
        read = [read_address(reply) for reply in dumped]
        return Remains(
            addresses=tuple(address for index, address, _ in read if index == bridge.index),
            ports=tuple(OldPort(link.index, link.name, inner.get(_other_end(found))) for link, found in ports),
            rules=tuple(_rules()),
        )

    def rename(self, index: int, name: str) -> None:
        """See `Predecessor.rename`."""
        with open_route_socket() as route:
            renaming = link_message(RTM_SETLINK, link_header(index), attribute_text(IFLA_IFNAME, name), what="name")
            try:
                route.transact([renaming], f"rename link {index} to {name}")
            except KernelError as error:
                if error.errno != errno.EBUSY:
                    raise
                # Before Linux 6.2 a link that is up keeps its name.
                down = link_message(RTM_SETLINK, link_header(index, change=IFF_UP), what="down")
                up = link_message(RTM_SETLINK, link_header(index, flags=IFF_UP, change=IFF_UP), what="up")
                route.transact([down, renaming, up], f"rename link {index} to {name}")

    def claim(self, bridge_index: int) -> None:
        """See `Predecessor.claim`."""
        with open_route_socket() as route:
            alias = attribute_text(IFLA_IFALIAS, LINK_ALIAS)
            route.transact([link_message(RTM_SETLINK, link_header(bridge_index), alias)], "claim the bridge")

    def remove(self, rules: Iterable[Removal]) -> None:
        """See `Predecessor.remove`."""
        tables: dict[tuple[str, str], list[str]] = {}
        for rule in rules:
            tables.setdefault((rule.program, rule.table), []).append(rule.line)
        for (program, table), lines in tables.items():
            text = "\n".join([f"*{table}", *lines, "COMMIT", ""])
            process.run([f"{program}-restore", "--noflush", "--wait"], input=text.encode())


def _other_end(found: dict[int, bytes]) -> tuple[int, int]:
    """(namespace id, index) of the other end of a pair."""
    if IFLA_LINK not in found or IFLA_LINK_NETNSID not in found:
        return _NO_ID, 0
    return u32_of(found[IFLA_LINK_NETNSID]), u32_of(found[IFLA_LINK])


def _inner_ends(route: Netlink, directory: str, ids: set[int]) -> Iterator[tuple[tuple[int, int], InnerEnd]]:
    """Every link of the namespaces with these ids that have a name, by (namespace id, index)."""
    for path in _named(directory):
        try:
            fd = netns.open_netns(path)
        except CellwallError:
            continue  # it ended meanwhile, or is none
        try:
            number = _id_of(route, fd)
            if number in ids:
                yield from (((number, index), end) for index, end in _links_in(path, fd))
        finally:
            os.close(fd)


def _named(directory: str) -> Sequence[str]:
    try:
        return sorted(entry.path for entry in os.scandir(directory))
    except OSError:
        return ()


def _id_of(route: Netlink, fd: int) -> int:
    message = Message(_RTM_GETNSID, 0, struct.pack("=B3x", 0) + attribute_u32(_NETNSA_FD, fd), "namespace id")
    (reply,) = route.transact([message], "ask for a namespace's id")
    return u32_of(attributes(reply.body, 4).get(_NETNSA_NSID, b"\xff\xff\xff\xff"))


def _links_in(path: str, fd: int) -> Iterator[tuple[int, InnerEnd]]:
    with netns.entered(fd):
        links, dumped = (_beginning(message) for message in (get_links(), get_addresses()))
    addresses = [read_address(reply) for reply in dumped]
    device, inode = netns.identity(fd)
    for link in map(read_link, links):
        own = tuple(address for index, address, _ in addresses if index == link.index)
        yield link.index, InnerEnd(path, device, inode, link.name, link.mac, own)


def _beginning(message: Message) -> list[Reply]:
    """Whoever is root in a sandbox may have filled its tables: of each only the beginning is read."""
    with open_route_socket() as inside:
        return inside.beginning(message, "look into a sandbox", _MOST)


def _rules() -> Iterator[OldRule]:
    programs = ["iptables-nft", "ip6tables-nft"]
    programs += [program for program, version in _LEGACY.items() if legacy_tables(version)]
    for program in programs:
        try:
            listing = process.run([f"{program}-save"]).text
        except CellwallError:
            continue  # not installed, or tables that it does not understand
        table = ""
        for line in listing.splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith("-A "):
                chain, _, text = line[3:].partition(" ")
                yield OldRule(program, table, chain, text)
