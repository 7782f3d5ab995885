"""Where rules of other programs lead what comes to a port of the node: their DNAT and REDIRECT, as text.

Owns: which rules are asked (the nat chains of prerouting of other tables, and what these lead to), and how one is read:
the protocol and ports that it or one on the way to it names, the addresses and interface that they ask for, also by
sets and maps. What is not understood of these is any. A rule that translates whatever comes, or by a match that nft
cannot spell, names no port and is left out. As text, since nft's JSON has no word of what iptables-nft's matches ask.

To list rules takes a program, 4 ms for few of them and 300 ms for a cluster of 2,000 services. So what was read holds
for as long as tables and chains are the same by their handles, and chains by their numbers of rules, and for a minute
at most: rules that were exchanged for as many others show in neither. A node on which nobody else translates is asked
for its chains, and no program is started.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Literal

import msgspec

from cellwall.adapters.nftables.blocks import blocks_of
from cellwall.engine.node.foreign_chains import AddressRange, Translation
from cellwall.lower.xt.chains import PREFIX
from cellwall.model.addresses import Protocol

_FAMILIES: dict[int, Literal["inet", "ip", "ip6"]] = {1: "inet", 2: "ip", 10: "ip6"}
_VERSIONS: dict[str, Literal[4, 6]] = {"ip": 4, "ip6": 6}
_HOLDS = 60.0

_TABLE, _NAME, _HANDLE, _HOOK, _USE, _TYPE = 1, 3, 2, 4, 6, 7  # NFTA_CHAIN_*
_TABLE_HANDLE = 4  # NFTA_TABLE_HANDLE; its name is NFTA_TABLE_NAME, 1, as that of a chain's table
_PREROUTING = bytes(4)  # NF_INET_PRE_ROUTING
_TOLD = ("dport", "daddr", "iif", "iifname", "l4proto", "protocol", "nexthdr")
"""How the fields end that matter."""
_BASE = "type nat hook prerouting "
_PORTS = re.compile(r"\b(?:(tcp|udp|th) )?dport (!= )?([\d-]+)|--dports? ([\d:,]+)|--destination-ports ([\d:,]+)")
_PROTOCOL = re.compile(
    r"\b(?:l4proto )?(tcp|udp)\b(?= dport)|\b(?:l4proto|protocol|nexthdr) (tcp|udp)\b|-p (tcp|udp)\b"
)
_ADDRESS = re.compile(r"(?:\bip6? daddr|(?<!! )-d) ([0-9a-f]*[.:][0-9a-f:./-]+)")
_ENTERS = re.compile(r"\biif(?:name)? (!= )?\"([^\"]+)\"|(! )?-i (\S+)")
_ACTS = re.compile(r"\b(dnat|redirect)\b|xt target \"(DNAT|REDIRECT)\"|-j (DNAT|REDIRECT)\b")
_LEADS = re.compile(r"\b(?:jump|goto) (\S+)|-[jg] (\S+)")
_COMMENT = re.compile(r"\bcomment \"[^\"]*\"")
_WORD = r"(?!v?map\b)[a-z]\w*"
_FIELD = rf"(?:{_WORD} )?{_WORD}"
_LOOKUP = re.compile(rf"(?:\b({_FIELD}(?: \. {_FIELD})*) )?(!= )?(v?map )?(@\w\S*|\{{[^}}]*\}})")
"""What is looked up: `tcp dport { 80, 443 }`, `ip daddr . th dport vmap @services`, `mod 2 vmap { … }`."""


class _Listed(msgspec.Struct, frozen=True):
    """A table: the lines of its chains and the elements of its maps, by name."""

    place: str
    version: Literal[4, 6] | None
    chains: Mapping[str, Sequence[str]]
    bases: Sequence[str]
    maps: Mapping[str, str] = {}


class _Way(msgspec.Struct, frozen=True):
    """What a packet was asked on its way to a rule."""

    protocols: tuple[Protocol, ...] = ("tcp", "udp")
    ports: tuple[tuple[int, int], ...] = ()
    addresses: tuple[AddressRange, ...] = ()
    interface: str = ""


class OthersTranslations:
    """What was read of them in the network namespace that the calling thread is in, for as long as it holds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[object, float, tuple[Translation, ...]] | None = None

    def read(self) -> tuple[Translation, ...]:
        """See `Neighbours.translations`."""
        from cellwall.adapters.iptables.legacy_names import legacy_tables

        tables, chains = _nat_tables()
        legacy = [version for version in (4, 6) if "nat" in legacy_tables(version)]
        if not tables and not legacy:
            return ()
        key = (chains, _table_handles(tables), _legacy_sizes() if legacy else ())
        if self._last is None or self._last[0] != key or self._clock() > self._last[1]:
            listed = [_list(family, table) for family, table in tables] + [_list_legacy(version) for version in legacy]
            found = tuple(dict.fromkeys(one for table in listed for one in _translations(table)))
            self._last = key, self._clock() + _HOLDS, found
        return self._last[2]


def _nat_tables() -> tuple[list[tuple[str, str]], tuple[bytes, ...]]:
    """Tables of others with a nat chain of prerouting, and what tells whether the chains of others changed: a cluster
    has thousands, so those without a hook are compared as they are told."""
    from cellwall.adapters.netlink.nfnetlink import HEADER_SIZE, NFT_MSG_GETCHAIN, nft_message, open_netfilter_socket
    from cellwall.adapters.netlink.nlattr import attribute_text, attributes, text_of
    from cellwall.names import SPARE_TABLE, TABLE

    # NFTA_CHAIN_TABLE comes first, then the name (net/netfilter/nf_tables_api.c, nf_tables_fill_chain_info)
    ours = tuple(attribute_text(_TABLE, table) for table in (TABLE, SPARE_TABLE))
    hooked = [attribute_text(_TYPE, kind) for kind in ("filter", "route", "nat")]
    rows: list[bytes] = []
    translating: list[tuple[str, str]] = []
    with open_netfilter_socket() as netfilter:
        for reply in netfilter.dump(nft_message(NFT_MSG_GETCHAIN, 0, b""), "read the chains of others"):
            body = reply.body
            if body.startswith(ours, HEADER_SIZE) or body[0] not in _FAMILIES:
                continue
            if not any(kind in body for kind in hooked):
                rows.append(body)
                continue
            found = attributes(body, HEADER_SIZE)
            rows.append(found[_NAME] + found.get(_HANDLE, b"") + found.get(_USE, b""))  # others are counters
            hook = attributes(found[_HOOK])[1] if _HOOK in found else b""
            if text_of(found.get(_TYPE, b"")) == "nat" and hook == _PREROUTING:
                translating.append((_FAMILIES[body[0]], text_of(found[_TABLE])))
    own = PREFIX.encode()
    return list(dict.fromkeys(translating)), tuple(row for row in rows if own not in row)


def _table_handles(tables: Sequence[tuple[str, str]]) -> tuple[tuple[str, str, bytes], ...]:
    """These tables with the number that no other one of the namespace ever had: chains are counted anew in each, so a
    table that was deleted and made again, or one like it, has chains of the same handles."""
    if not tables:
        return ()
    from cellwall.adapters.netlink.nfnetlink import HEADER_SIZE, NFT_MSG_GETTABLE, nft_message, open_netfilter_socket
    from cellwall.adapters.netlink.nlattr import attributes, text_of

    handles: dict[tuple[str, str], bytes] = {}
    with open_netfilter_socket() as netfilter:
        for reply in netfilter.dump(nft_message(NFT_MSG_GETTABLE, 0, b""), "read the tables of others"):
            found = attributes(reply.body, HEADER_SIZE)
            if reply.body[0] in _FAMILIES:
                where = _FAMILIES[reply.body[0]], text_of(found[_TABLE])
                handles[where] = found.get(_TABLE_HANDLE, b"")
    return tuple((*where, handles.get(where, b"")) for where in tables)


def _legacy_sizes() -> tuple[object, ...]:
    from cellwall.adapters.iptables.legacy_tables import legacy_sizes

    return legacy_sizes("nat")


def _list(family: str, table: str) -> _Listed:
    blocks = list(blocks_of(_said("nft", "--stateless", "list", "table", family, table)))
    chains = {block.name: block.lines for block in blocks if block.kind == "chain"}
    bases = [name for name, lines in chains.items() if lines and lines[0].startswith(_BASE)]
    maps = {f"@{block.name}": " ".join(block.lines) for block in blocks if block.kind in ("map", "set")}
    return _Listed(f"table {family} {table}", _VERSIONS.get(family), chains, bases, maps)


def _list_legacy(version: int) -> _Listed:
    program: str = "iptables-legacy" if version == 4 else "ip6tables-legacy"
    chains: dict[str, list[str]] = {}
    for line in _said(f"{program}-save", "-t", "nat").splitlines():
        if line.startswith("-A "):
            name, _, rule = line[3:].partition(" ")
            chains.setdefault(name, []).append(rule)
    return _Listed(f"{program} nat", 4 if version == 4 else 6, chains, ["PREROUTING"])


def _said(*argv: str) -> str:
    """Nothing where it cannot be read: the table is gone meanwhile, or there is no such program."""
    from cellwall.adapters import process
    from cellwall.errors import CellwallError

    try:
        return process.run(list(argv)).text
    except CellwallError:
        return ""


def _translations(table: _Listed) -> Iterator[Translation]:
    waiting = [(name, _Way()) for name in table.bases]
    seen = set(waiting)
    while waiting:
        name, way = waiting.pop()
        for rule in table.chains.get(name, ()):
            for here, leads, acts in _read(rule, way, table.maps):
                if acts and here.ports:
                    yield from _told(table, name, here)
                step = leads, here
                if leads and not leads.startswith(PREFIX) and step not in seen:
                    seen.add(step)
                    waiting.append(step)


def _told(table: _Listed, chain: str, way: _Way) -> Iterator[Translation]:
    for protocol in way.protocols:
        for first, last in way.ports:
            place = f"{table.place}, chain {chain}"
            yield Translation(protocol, first, last, table.version, way.addresses, way.interface, place)


def _read(rule: str, way: _Way, sets: Mapping[str, str]) -> Iterator[tuple[_Way, str, bool]]:
    """What a packet was asked after this rule, the chain that it is led to or "", and whether it is translated; once
    for each element of a set or map that tells packets apart by it."""
    rule = _COMMENT.sub("", rule)
    acts = _ACTS.search(rule) is not None
    lookups = list(_LOOKUP.finditer(rule)) if "{" in rule or "@" in rule else []
    if lookups:
        rule = _LOOKUP.sub(" ", rule)
    leads = _LEADS.search(rule)
    ways = [(_narrowed(rule, way), (leads[1] or leads[2]) if leads else "")]
    for lookup in lookups:
        fields = lookup[1].split(" . ") if lookup[1] else []
        found = _found(fields, lookup, sets)
        ways = list(dict.fromkeys((_asked(key, here), to or led) for here, led in ways for key, to in found))
    for here, led in ways:
        yield here, led, acts


_Key = tuple[tuple[str, tuple[str, ...]], ...]
"""Fields of a packet, each with the values that it may have; none: any."""


def _found(fields: Sequence[str], lookup: re.Match[str], sets: Mapping[str, str]) -> list[tuple[_Key, str]]:
    """What a packet that is found has in these fields, and the chain that it is led to or ""."""
    body = sets.get(lookup[4]) if lookup[4].startswith("@") else lookup[4]
    told = [field for field in fields if field.endswith(_TOLD)]
    if body is None or lookup[2] or not (told or lookup[3]):  # not told here; all others; by what does not matter
        return [(tuple((field, ()) for field in told), "")]
    elements: list[tuple[tuple[str, ...], str]] = []
    for element in _COMMENT.sub("", body).rpartition("{")[2].partition("}")[0].split(",") if "{" in body else ():
        key, _, value = element.strip().rpartition(" : ")
        leads = _LEADS.search(value) if lookup[3] else None
        parts = (key or value).split(" . ")
        elements.append((tuple(part.split()[0] for part in parts if part.strip()), leads[1] if leads else ""))
    if len(fields) == 1 and not lookup[3] and fields[0].endswith((" dport", " daddr")) and elements:
        return [(((fields[0], tuple(part for parts, _ in elements for part in parts)),), "")]
    return [
        (tuple((field, (part,)) for field, part in zip(fields, parts, strict=False) if field in told), to)
        for parts, to in elements
    ]


def _asked(key: _Key, way: _Way) -> _Way:
    for field, values in key:
        if field.endswith("daddr"):
            way = msgspec.structs.replace(way, addresses=_ranges(values))
        elif field.endswith("dport"):
            named = field.partition(" ")[0]
            protocols = way.protocols if named == "th" else _protocols(named)
            way = msgspec.structs.replace(way, protocols=protocols, ports=_spans(",".join(values)) or way.ports)
        elif values and field.endswith(("iif", "iifname")):
            way = msgspec.structs.replace(way, interface=values[0].strip('"'))
        elif values:
            way = msgspec.structs.replace(way, protocols=_protocols(values[0]))
    return way


def _protocols(name: str) -> tuple[Protocol, ...]:
    return ("tcp",) if name == "tcp" else ("udp",) if name == "udp" else ()


def _narrowed(rule: str, way: _Way) -> _Way:
    """By what a rule asks without a set."""
    ports, protocol = _PORTS.search(rule), _PROTOCOL.search(rule)
    address, enters = _ADDRESS.search(rule), _ENTERS.search(rule)
    named = (ports and ports[1] != "th" and ports[1]) or (protocol and (protocol[1] or protocol[2] or protocol[3]))
    interface = way.interface
    if enters:
        interface = ("!" if enters[1] or enters[3] else "") + (enters[2] or enters[4])
    return _Way(
        _protocols(named) if named else way.protocols,
        _spans(ports[3] or ports[4] or ports[5]) if ports and not ports[2] else way.ports,
        _ranges([address[1]]) if address else way.addresses,
        interface,
    )


def _ranges(texts: Sequence[str]) -> tuple[AddressRange, ...]:
    """Of addresses, prefixes and ranges; () where one is none of these, as a mask with holes: it may hold any."""
    try:
        return tuple(_range(text) for text in texts)
    except ValueError:
        return ()


def _range(text: str) -> AddressRange:
    first, dash, last = text.partition("-")
    if dash:
        return ip_address(first), ip_address(last)
    network = ip_network(text, strict=False)
    return network[0], network[-1]


def _spans(text: str) -> tuple[tuple[int, int], ...]:
    """`80`, `80-90`, `80,443` or iptables' `80:90`."""
    found = []
    for part in text.split(","):
        first, _, last = part.strip().replace(":", "-").partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            found.append((int(first), int(last or first)))
    return tuple(found)
