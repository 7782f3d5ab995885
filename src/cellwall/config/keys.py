"""The table of settings: one row per key of the configuration, with its form, its parser and how it is shown.

`KEYS` are those of the wall, which go on record when an `up` brings them into force. `SERVING_KEYS` say who writes, and
how it is reached: nothing about the wall changes with them.

The file, the environment and the flags differ in form only: a file has typed values, the other two have
text. `read` turns text into the form a file would have, so that there is one parser per key and one set of
messages.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import msgspec

from cellwall.config.mode import Serving
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Address, Prefix, mac_text, parse_address, parse_mac, parse_prefix
from cellwall.model.endpoint import parse_port
from cellwall.model.identifiers import parse_label, parse_link_name
from cellwall.model.settings import Bound, Opening, Settings, parse_openings

if TYPE_CHECKING:
    from cellwall.model.grants import Grant

T = TypeVar("T")

MOST_TENANTS = 1000
_LONGEST_POLL = 10_000

Form = Literal["text", "number", "list"]

MAX_READY = 511
"""Half of a bridge's ports."""


class Key(msgspec.Struct, frozen=True):
    """One setting. `name` is `section.attribute`; the attribute is that of `Network`, `Audit`, `Settings` or `Serving`.

    `separator` splits the text of a list; it is a semicolon where an item may contain a comma.
    """

    name: str
    form: Form
    parse: Callable[[Any, str], object]
    about: str
    separator: str = ","

    @property
    def section(self) -> str:
        """What stands before the dot."""
        return self.name.partition(".")[0]

    @property
    def attribute(self) -> str:
        """The name without its section."""
        return self.name.partition(".")[2]

    @property
    def member(self) -> str:
        """The attribute's name in `Serving`, where that of the pool has its section's in it."""
        return self.name.replace(".", "_") if self.section == "pool" else self.attribute

    @property
    def variable(self) -> str:
        """The environment variable of this key."""
        return "CELLWALL_" + self.name.replace(".", "_").upper()

    def read(self, text: str) -> object:
        """The text of a flag or a variable in the form that a file would have."""
        if self.form == "list":
            return [part.strip() for part in text.split(self.separator) if part.strip()]
        if self.form == "text":
            return text.strip()
        try:
            if not text.isascii():  # digits of other scripts, which a file could not have
                raise ValueError
            return int(text, 0)
        except ValueError as error:
            raise InvalidSpec(self.name, text, "must be a whole number") from error

    def typed(self, value: object) -> object:
        """Parse a value of a file; raises InvalidSpec for another type."""
        wanted = {"text": "a string", "number": "a whole number", "list": "a list of strings"}[self.form]
        right = {
            "text": isinstance(value, str),
            # a TOML boolean is an int to Python
            "number": isinstance(value, int) and not isinstance(value, bool),
            "list": isinstance(value, list) and all(isinstance(item, str) for item in value),
        }[self.form]
        if not right:
            raise InvalidSpec(self.name, value, f"must be {wanted}")
        return self.parse(value, self.name)


def _network(attribute: str, form: Form, parse: Callable[[Any, str], object], about: str) -> Key:
    return Key(f"network.{attribute}", form, parse, about)


def _of_family(kind: type[T], parse: Callable[[str, str], object], said: str) -> Callable[[str, str], T]:
    def parsed(text: str, field: str) -> T:
        value = parse(text, field)
        if not isinstance(value, kind):
            raise InvalidSpec(field, text, f"must be an {said}")
        return value

    return parsed


_subnet4 = _of_family(IPv4Network, parse_prefix, "IPv4 network")
_subnet6 = _of_family(IPv6Network, parse_prefix, "IPv6 network")
_gateway4 = _of_family(IPv4Address, parse_address, "IPv4 address")
_gateway6 = _of_family(IPv6Address, parse_address, "IPv6 address")


def _one_of(*words: str) -> Callable[[str, str], str]:
    def parsed(text: str, field: str) -> str:
        if text not in words:
            raise InvalidSpec(field, text, f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text

    return parsed


_ipv6 = _one_of("auto", "off")
_backend = _one_of("auto", "nftables", "iptables")
_iptables = _one_of("auto", "nft", "legacy")
_smtp = _one_of("closed", "watched", "open")
_mode = _one_of("inprocess", "daemon")


def _addresses(items: list[str], field: str) -> tuple[Address, ...]:
    return tuple(parse_address(item, field) for item in items)


def _prefixes(items: list[str], field: str) -> tuple[Prefix, ...]:
    return tuple(parse_prefix(item, field) for item in items)


def _openings(items: list[str], field: str) -> tuple[Opening, ...]:
    return tuple(opening for item in items for opening in parse_openings(item, field))


def _number(value: int, field: str) -> int:
    if value < 0:
        raise InvalidSpec(field, value, "must not be negative")
    return value


def _pool(value: int, field: str) -> int:
    if not 0 <= value <= MAX_READY:
        raise InvalidSpec(field, value, f"must be from 0 to {MAX_READY}")
    return value


def _watched(items: list[str], field: str) -> tuple[str, ...]:
    known = get_args(Bound)
    for item in items:
        if item not in known:
            raise InvalidSpec(field, item, f"must be one of {', '.join(known)}")
    return tuple(sorted(set(items)))


def _group(text: str, field: str) -> str:
    if not text:
        return ""
    from cellwall.model.grants import parse_group  # few say any of these, and a plugin is a process per call

    return parse_group(text, field)


def _grants(items: list[str], field: str) -> "tuple[Grant, ...]":
    from cellwall.model.grants import parse_grant

    return tuple(parse_grant(item, field) for item in items)


def _scraped(text: str, field: str) -> str:
    if not text:
        return ""
    from cellwall.model.scraped import parse_scraped

    return str(parse_scraped(text, field))


def _most_tenants(value: int, field: str) -> int:
    if not 0 <= value <= MOST_TENANTS:
        raise InvalidSpec(field, value, f"must be 0 to {MOST_TENANTS}: each is ten series")
    return value


def _busy_poll(value: int, field: str) -> int:
    if not 0 <= value <= _LONGEST_POLL:
        raise InvalidSpec(field, value, f"must be 0 to {_LONGEST_POLL} microseconds")
    return value


def _interface(text: str, field: str) -> str:
    return parse_link_name(text, field) if text else ""


def _port_range(text: str, field: str) -> tuple[int, int]:
    low, _, high = (part.strip() for part in text.partition("-"))
    if not (low.isdigit() and high.isdigit()):
        raise InvalidSpec(field, text, "must be a range of ports such as 10240-29999")
    return parse_port(low, field), parse_port(high, field)


def _port_ranges(items: list[str], field: str) -> tuple[tuple[int, int], ...]:
    """Each `30000-32767`, or a single port."""
    ranges = tuple(_port_range(item if "-" in item else f"{item}-{item}", field) for item in items)
    for (low, high), item in zip(ranges, items, strict=True):
        if low > high:
            raise InvalidSpec(field, item, "must be a range of ports such as 30000-32767")
    return ranges


def _files(value: int, field: str) -> int:
    if not 1 <= value <= 1000:
        raise InvalidSpec(field, value, "must be from 1 to 1000")
    return value


def _megabytes(value: int, field: str) -> int:
    if not 1 <= value <= 1024:
        raise InvalidSpec(field, value, "must be from 1 to 1024 (MiB)")
    return value


def _switch(text: str, field: str) -> bool:
    if text not in ("on", "off"):
        raise InvalidSpec(field, text, "must be on or off")
    return text == "on"


KEYS: tuple[Key, ...] = (
    _network("name", "text", parse_label, "name of the network, as shown in listings"),
    _network("bridge", "text", parse_link_name, "the bridge that cellwall makes and owns"),
    _network("bridge_mac", "text", parse_mac, "MAC of the bridge, which is every sandbox's gateway"),
    _network("veth_prefix", "text", parse_link_name, "three letters or digits: the start of host-side links"),
    _network("subnet4", "text", _subnet4, "IPv4 subnet of the sandboxes"),
    _network("gateway4", "text", _gateway4, "IPv4 address of the bridge; default: the subnet's first host"),
    _network("subnet6", "text", _subnet6, "IPv6 subnet of the sandboxes"),
    _network("gateway6", "text", _gateway6, "IPv6 address of the bridge; default: the subnet's first host"),
    _network("mtu", "number", _number, "MTU of the sandboxes; 0: the node interface's"),
    _network("ipv6", "text", _ipv6, "auto: wherever the kernel can filter and translate it; off: none"),
    _network("dns", "list", _addresses, "resolvers; default: the node's own where the floor allows them"),
    Key("network.exceptions", "list", _openings, "openings of the floor: NAME ADDRESS PROTOCOL/PORT", ";"),
    Key("node.interface", "text", _interface, "the interface of all egress; default: the default route's"),
    Key("node.public_addresses", "list", _addresses, "the node's addresses that a cloud's NAT hides from it"),
    Key("node.protect", "list", _prefixes, "further networks that no tenant may reach"),
    Key("node.nat_ports", "text", _port_range, "source ports of translated flows, free of services"),
    Key("node.reserved_ports", "text", _port_range, "host ports that are given to who reserves some"),
    Key("node.kept_ports", "list", _port_ranges, "host ports that only root may publish: 30000-32767"),
    Key("node.mark", "number", _number, "the packet mark bit that cellwall uses"),
    Key("node.services", "list", _openings, "services for tenants: NAME ADDRESS PROTOCOL/PORT", ";"),
    Key("node.backend", "text", _backend, "what holds the wall: auto, nftables or iptables"),
    Key("node.iptables", "text", _iptables, "which iptables: auto (where the host's other rules are), nft or legacy"),
    Key("limits.connections", "number", _number, "concurrent connections of one sandbox and family"),
    Key("limits.new_connections", "number", _number, "of these that begin in a second; 0: as many as one likes"),
    Key("limits.packets", "number", _number, "packets a second of one sandbox, family and direction; 0: any number"),
    Key("limits.bytes", "number", _number, "bytes a second of one sandbox, family and direction; 0: any number"),
    Key("limits.tenant_connections", "number", _number, "concurrent connections of one tenant; 0: any number"),
    Key("limits.tenant_new_connections", "number", _number, "of these that begin in a second; 0: any number"),
    Key("limits.tenant_packets", "number", _number, "packets a second of one tenant and direction; 0: any number"),
    Key("limits.tenant_bytes", "number", _number, "bytes a second of one tenant and direction; 0: any number"),
    Key("limits.watched", "list", _watched, "limits counted and not kept, by name"),
    Key("limits.smtp", "text", _smtp, "TCP to port 25 that no policy lists: closed, watched (it passes) or open"),
    Key("audit.log", "text", _switch, "whether packets that are denied are told of, and not only counted: on or off"),
    Key("audit.group", "number", _number, "the group of the kernel's packet log that they are told to"),
    Key("audit.rate", "number", _number, "how many a second are told of one tenant, and again to each sandbox"),
    Key("audit.burst", "number", _number, "how many of them at once, after a silence"),
)

SERVING_KEYS: tuple[Key, ...] = (
    Key("node.mode", "text", _mode, "who writes: inprocess, each command itself; daemon, `cellwall serve`"),
    Key("daemon.group", "text", _group, "the group that may connect to the daemon; default: root alone"),
    Key("daemon.metrics", "text", _scraped, "where Prometheus reads over TCP: 127.0.0.1:9469; default: nowhere"),
    Key("daemon.metrics_tenants", "number", _most_tenants, "tenants that metrics tell apart; the rest are one"),
    Key("daemon.busy_poll", "number", _busy_poll, "µs that it looks for the next call before it sleeps; 0: none"),
    Key("audit.files", "number", _files, "files of events that a daemon keeps"),
    Key("audit.file_size", "number", _megabytes, "MiB after which a file of events is followed by the next"),
    Key("audit.journal", "text", _switch, "whether events are told to systemd's journal as well: on or off"),
    Key("daemon.allow", "list", _grants, "what groups may ask for: GROUP VERB[,VERB…] TENANT[,TENANT…]", ";"),
    Key("pool.size", "number", _pool, "sandboxes that stand ready for a container to claim; 0: none"),
    Key("pool.burst", "number", _pool, "as many more as were claimed within 10 s, up to this"),
)

BY_NAME: dict[str, Key] = {key.name: key for key in (*KEYS, *SERVING_KEYS)}
SECTIONS: tuple[str, ...] = ("network", "node", "daemon", "pool", "limits", "audit")


def shown(key: Key, settings: Settings | Serving) -> object:
    """The present value of a key in the form that a file would have."""
    holder: object = settings
    if isinstance(settings, Settings) and hasattr(settings.network, key.attribute):
        holder = settings.network
    elif isinstance(settings, Settings) and key.section == "audit":
        holder = settings.audit
    value: Any = getattr(holder, key.member)
    if isinstance(value, bool):
        return "on" if value else "off"
    if key.name == "network.bridge_mac":
        return mac_text(value)
    if key.name in ("node.nat_ports", "node.reserved_ports"):
        return "-".join(str(port) for port in value)
    if key.form == "list":
        return [_shown_item(item) for item in value]
    return value if key.form == "number" else str(value)


def _shown_item(item: object) -> str:
    if isinstance(item, tuple):
        return "-".join(str(port) for port in item)
    if isinstance(item, Opening):
        return f"{item.name} {item.address} {item.protocol}/{item.port}"
    return str(item)
