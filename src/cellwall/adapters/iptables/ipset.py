"""ipsets over nfnetlink (linux/netfilter/ipset/ip_set.h): `engine.iptables.contracts.Sets`.

Owns: the packing of entries by the type of their set, one message each and all in one system call, dumps read back
to typed entries, and the one call of `ipset restore`, which makes the sets. Consecutive ports are one message:
the kernel makes an entry of each.

Everything in a message lies in network order and says so in its attribute's type; what does not is refused as a
protocol error (net/netfilter/ipset/ip_set_core.c, ip_set_attr_netorder).
"""

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, summarize_address_range
from typing import Literal

import msgspec

from cellwall.adapters.netlink.nfnetlink import HEADER_SIZE, ipset_message, open_netfilter_socket
from cellwall.adapters.netlink.nlattr import (
    attribute,
    attribute_text,
    attribute_u8,
    attributes,
    each_attribute,
    nested,
    text_of,
)
from cellwall.adapters.netlink.sockets import NLM_F_EXCL, Closing, Message, Netlink
from cellwall.errors import KernelError, NoPrivilege, NotFound
from cellwall.lower.xt.endpoints import OwnedEntry
from cellwall.lower.xt.sets import Entry, IpSet, definition, entry_text, is_own_set
from cellwall.lower.xt.timeouts import FlowTimeouts

_DESTROY, _LIST, _ADD, _DEL, _TYPE = 3, 7, 9, 10, 13  # IPSET_CMD_*
_PROTOCOL, _SETNAME, _TYPENAME, _FAMILY, _FLAGS, _DATA, _ADT = 1, 2, 3, 5, 6, 7, 8
_IP, _IP_TO, _CIDR, _PORT, _PORT_TO, _TIMEOUT, _PROTO, _CADT_FLAGS = 1, 2, 3, 4, 5, 6, 7, 8
_MAXELEM, _ETHER, _IP2, _CIDR2, _SKBMARK = 19, 17, 20, 21, 27
_NET_BYTEORDER = 0x4000
_VERSION = 6  # of the protocol: the kernel takes it and all later ones
_LIST_HEADER, _WITH_COUNTERS, _WITH_SKBINFO = 1 << 2, 1 << 3, 1 << 6
_FAMILIES: dict[int, Literal[4, 6]] = {2: 4, 10: 6}
_NFPROTO = {4: 2, 6: 10}
_ALL_BITS = 0xFFFFFFFF

_NO_SUCH_TYPE, _IN_USE, _NO_SUCH_ENTRY = 4098, 4100, 4103  # IPSET_ERR_FIND_TYPE, _BUSY, _EXIST
_PRIVATE = 4096
# A set is let go of after the rules of nf_tables that referred to it are gone, when the kernel comes to it
# (nf_tables_trans_destroy_work), and nobody is told.
_LINGERING = 1.0


class IpSets(Closing):
    """The sets of the network namespace that the creating thread is in."""

    def __init__(self, schema: Mapping[str, IpSet] | None = None) -> None:
        self.schema: Mapping[str, IpSet] = schema or {}
        self._netfilter = open_netfilter_socket()

    def close(self) -> None:
        """See `Sets.close`."""
        self._netfilter.close()

    def restore(self, text: str) -> None:
        """See `Sets.restore`. Unsupported where ipset is not installed."""
        if not text:
            return
        # Imported here: the hot path starts no program, and subprocess is the larger part of all imports.
        from cellwall.adapters.process import run

        completed = run(["ipset", "restore"], input=text.encode(), check=False)
        if completed.returncode != 0:
            said = " ".join(completed.stderr.decode(errors="replace").split())
            missing = "does not exist" in said
            raise KernelError(errno.ENOENT if missing else errno.EINVAL, "make the sets", said)

    def destroy(self, names: Sequence[str]) -> tuple[str, ...]:
        """See `Sets.destroy`."""
        patience = time.monotonic() + _LINGERING
        while names := self._destroy(names):
            if time.monotonic() > patience:
                break
            time.sleep(_LINGERING / 100)
        return tuple(names)

    def _destroy(self, names: Sequence[str]) -> list[str]:
        if not names:
            return []
        messages = [ipset_message(_DESTROY, 0, _head(name), what=f"set {name}") for name in names]
        _, refusals = self._netfilter.exchange(messages, len(messages) - 1, "destroy sets")
        for refusal in refusals:
            if refusal.errno not in (errno.ENOENT, _IN_USE):
                raise KernelError(_plain(refusal.errno), f"destroy set {names[refusal.position]}", refusal.text)
        return [names[refusal.position] for refusal in refusals if refusal.errno == _IN_USE]

    def apply(self, added: Sequence[OwnedEntry], removed: Sequence[OwnedEntry]) -> None:
        """See `Sets.apply`."""
        spans = [("add", *span) for span in self._spans(added)] + [("delete", *span) for span in self._spans(removed)]
        if not spans:
            return
        messages = [pack(op == "add", one, entry) for op, one, entry in spans]
        _, refusals = self._netfilter.exchange(messages, len(messages) - 1, "change sets")
        for refusal in refusals:
            op, one, entry = spans[refusal.position]
            what = f"{op} {one.name} {entry_text(one, entry)}"
            if refusal.errno == errno.EPERM:
                raise NoPrivilege(f"{what}: needs CAP_NET_ADMIN")
            raise KernelError(_plain(refusal.errno), what, refusal.text)

    def entries(self, name: str) -> frozenset[Entry]:
        """See `Sets.entries`. NotFound for a set that the schema does not know."""
        one = self._known(name)
        return frozenset(_read(entry, one) for entry in list_set(self._netfilter, name))

    def definitions(self) -> Mapping[str, str]:
        """See `Sets.definitions`."""
        headers = all_headers(self._netfilter)
        return {name: _definition(name, header) for name, header in headers if is_own_set(name)}

    def keep_timeouts(self, rows: Sequence[FlowTimeouts]) -> None:
        """See `Sets.keep_timeouts`."""
        from cellwall.adapters.conntrack.timeouts import make_timeouts

        make_timeouts(self._netfilter, rows)

    def drop_timeouts(self) -> tuple[str, ...]:
        """See `Sets.drop_timeouts`."""
        from cellwall.adapters.conntrack.timeouts import delete_timeouts, timeout_names

        delete_timeouts(self._netfilter, timeout_names(self._netfilter))
        return timeout_names(self._netfilter)

    def _known(self, name: str) -> IpSet:
        one = self.schema.get(name)
        if one is None:
            raise NotFound(f"no set {name} in the wall in force")
        return one

    def _spans(self, owned: Sequence[OwnedEntry]) -> Iterator[tuple[IpSet, Entry]]:
        """Entries with their sets, consecutive ports taken together."""
        waiting: OwnedEntry | None = None
        for one in owned:
            joined = _joined(waiting, one)
            if waiting is not None and joined is None:
                yield self._known(waiting.set), waiting.entry
            waiting = joined or one
        if waiting is not None:
            yield self._known(waiting.set), waiting.entry


def has_type(name: str) -> bool:
    """Whether the kernel has a type of sets. KernelError for any other refusal than that."""
    body = attribute_u8(_PROTOCOL, _VERSION) + attribute_text(_TYPENAME, name) + attribute_u8(_FAMILY, _NFPROTO[4])
    with open_netfilter_socket() as netfilter:
        _, refusals = netfilter.exchange([ipset_message(_TYPE, 0, body)], 0, "look for a type of sets")
    for refusal in refusals:
        if refusal.errno not in (_NO_SUCH_TYPE, errno.ENOENT, errno.EINVAL):
            raise KernelError(_plain(refusal.errno), f"look for the set type {name}", refusal.text)
    return not refusals


def pack(adding: bool, one: IpSet, entry: Entry) -> Message:
    """One entry as a message. An addition of what is there replaces its mark; a deletion of what is not is refused."""
    data = [_address(_IP, entry.address, one.version)]
    if one.type in ("hash:net", "hash:net,port"):
        data.append(attribute_u8(_CIDR, entry.prefixlen))
    if one.type in ("hash:ip,mac", "bitmap:ip,mac"):
        data.append(attribute(_ETHER, entry.mac.to_bytes(6, "big")))
    elif one.type not in ("hash:ip", "hash:net"):
        data += [attribute_u8(_PROTO, entry.protocol), _port(_PORT, entry.port)]
        if entry.last not in (0, entry.port):
            data.append(_port(_PORT_TO, entry.last))
        if one.type == "hash:ip,port,net":
            data += [_address(_IP2, entry.client, one.version), attribute_u8(_CIDR2, entry.client_bits)]
    if one.marks and adding:
        mark = entry.mark << 32 | _ALL_BITS
        data.append(attribute(_SKBMARK | _NET_BYTEORDER, mark.to_bytes(8, "big")))
    body = _head(one.name) + nested(_DATA, *data)
    return ipset_message(_ADD if adding else _DEL, 0 if adding else NLM_F_EXCL, body, family=_NFPROTO[one.version])


def _joined(first: OwnedEntry | None, then: OwnedEntry) -> OwnedEntry | None:
    """Two entries as one, where they differ in a port that follows on the other's."""
    if first is None or first.set != then.set or not then.entry.port or then.entry.port != first.entry.last + 1:
        return None
    span = msgspec.structs.replace(then.entry, port=first.entry.port)
    alike = span == msgspec.structs.replace(first.entry, last=then.entry.last)
    return msgspec.structs.replace(then, entry=span) if alike else None


def _head(name: str) -> bytes:
    return attribute_u8(_PROTOCOL, _VERSION) + attribute_text(_SETNAME, name)


def _address(kind: int, address: int, version: int) -> bytes:
    inner = (1, 4) if version == 4 else (2, 16)  # IPSET_ATTR_IPADDR_IPV4, _IPV6
    return nested(kind, attribute(inner[0] | _NET_BYTEORDER, address.to_bytes(inner[1], "big")))


def _port(kind: int, port: int) -> bytes:
    return attribute(kind | _NET_BYTEORDER, port.to_bytes(2, "big"))


def _plain(number: int) -> int:
    """ipset's own error numbers as those that everybody knows."""
    if number < _PRIVATE:
        return number
    return errno.ENOENT if number == _NO_SUCH_ENTRY else errno.EINVAL


def _read(data: Mapping[int, bytes], one: IpSet) -> Entry:
    port = _number(data.get(_PORT))
    bits = 32 if one.version == 4 else 128
    net, client = one.type in ("hash:net", "hash:net,port"), one.type == "hash:ip,port,net"
    return Entry(
        _inner(data[_IP]),
        prefixlen=_number(data.get(_CIDR), bits) if net else -1,
        protocol=_number(data.get(_PROTO)),
        port=port,
        last=port,
        client=_inner(data[_IP2]) if client else 0,
        client_bits=_number(data.get(_CIDR2), bits) if client else -1,
        mac=_number(data.get(_ETHER)),
        mark=_number(data.get(_SKBMARK)) >> 32,
    )


def list_set(netfilter: Netlink, name: str) -> Iterator[Mapping[int, bytes]]:
    """The attributes of each entry of a set. KernelError ENOENT where it is missing."""
    request = ipset_message(_LIST, 0, _head(name), what=f"set {name}")
    for reply in netfilter.dump(request, f"read set {name}"):
        for _, data in each_attribute(attributes(reply.body, HEADER_SIZE).get(_ADT, b"")):
            yield attributes(data)


def all_headers(netfilter: Netlink) -> Iterator[tuple[str, Mapping[int, bytes]]]:
    """Every set, whoever's, by name, with the attributes of its header."""
    flags = attribute(_FLAGS | _NET_BYTEORDER, _LIST_HEADER.to_bytes(4, "big"))
    request = ipset_message(_LIST, 0, attribute_u8(_PROTOCOL, _VERSION) + flags, what="sets")
    for reply in netfilter.dump(request, "read all sets"):
        header = attributes(reply.body, HEADER_SIZE)
        yield text_of(header[_SETNAME]), header


def _inner(value: bytes) -> int:
    return next(int.from_bytes(part, "big") for _, part in each_attribute(value))


def _number(value: bytes | None, default: int = 0) -> int:
    return default if value is None else int.from_bytes(value, "big")


def _definition(name: str, header: Mapping[int, bytes]) -> str:
    """A live set in the words of `lower.xt.sets.definition`, whatever type it has."""
    kind, data = text_of(header[_TYPENAME]), attributes(header.get(_DATA, b""))
    version = _FAMILIES.get(header[_FAMILY][0], 4)
    flags = _number(data.get(_CADT_FLAGS))
    one = IpSet(
        name,
        "bitmap:ip,mac" if kind == "bitmap:ip,mac" else "hash:ip",
        version,
        marks=bool(flags & _WITH_SKBINFO),
        span=_span(data),
        counts=bool(flags & _WITH_COUNTERS),
        seconds=_number(data.get(_TIMEOUT)),
    )
    shown = definition(one).split(" ")
    shown[1] = kind
    if "maxelem" in shown:
        shown[shown.index("maxelem") + 1] = str(_number(data.get(_MAXELEM)))
    return " ".join(shown)


def _span(data: Mapping[int, bytes]) -> str:
    if _IP not in data or _IP_TO not in data:
        return ""
    first, last = IPv4Address(_inner(data[_IP])), IPv4Address(_inner(data[_IP_TO]))
    return ",".join(str(network) for network in summarize_address_range(first, last))
