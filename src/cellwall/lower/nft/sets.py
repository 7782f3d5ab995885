"""The named sets and maps: everything that changes per endpoint, binding or node.

Only hash sets grow with endpoints. Interval sets hold the floor (small, static) and port ranges (rare).

| set | key → data | one element per |
|---|---|---|
| `ports` (bridge) | interface index | endpoint |
| `pin4` `pin6` (bridge) | interface index, MAC, address | endpoint and family |
| `live` | policy version | endpoint |
| `version4` `version6` | address → policy version | endpoint and family |
| `tenant4` `tenant6` | address → number of its tenant | endpoint and family |
| `kin4` `kin6` | stem of policy versions, address | endpoint, family and block that flows still carry |
| `publish4` `publish6` | protocol, host port → address, port | binding without a bind address |
| `publishto4` `publishto6` | address, protocol, host port → address, port | binding with one |
| `publishrange4` … | address range, protocol, port range → address | range with equal ports |
| `proxied4` `proxied6` | host port | binding that a proxy serves, without a bind address |
| `proxiedat4` `proxiedat6` | bind address, host port | the same with one |
| `exposed4` … | address, protocol, port, host port | binding open to anyone |
| `exposedto4p24` … | address, protocol, port, host port, client network | binding and client network of that length |
| `exposedat4` … | address, protocol, port, host port, bind address | binding to one address, open to anyone |
| `exposedatto4p24tcp` … | address, port, host port, bind address, client network | the same, and client network |
| `exposedrange4` … | address, protocol, port range, host port range, bind range | range open to anyone |
| `exposedrangeto4tcp` … | address, port range, host port range, bind range, client range | range and client network |
| `tenantlimits4` … `endpointguards4` … | address | endpoint under such a policy of that tier |
| `tenantallow4p24` … | address, network | destination, of any protocol |
| `tenantallow4p24proto` … | address, network, protocol | destination of a protocol |
| `tenantallow4p24port12` … | address, network, protocol, port | block of ports that share their first 12 bits |
| `tenantclients4p24` … | address, network | client network of all published ports |
| `mail4` `mail6` | address | endpoint with a policy that lists mail |
| `group4` `group6` | address → number of the tenant's policy | linked endpoint |
| `linked4` `linked6` | number, address | linked endpoint |
| `floor4` `floor6` `opened4` … `services4` … | the floor, its exceptions, the node's services | row |
| `noclients4` `noclients6` | what no client asks from | row |
| `flows4` `newflows4` `sent4` … `arps` `solicitations` `fragments` `pings4` … | dynamic: bounds | sender |
| `allfragments` (bridge) | dynamic: a bound | the gateway's MAC: all senders |
| `clients4` `newclients4` `got4` … | dynamic: bounds | endpoint with published ports |
| `tenantflows` `tenantclients` `tenantnewflows` … | dynamic: bounds, by number | tenant |
| `fulltenants` `fullclients` `lingering` `lingeringclients` | dynamic: those over a bound of flows | tenant |
| `endedflows4` `begunagain4` … | dynamic: packets in ended flows; SYNs in them | ended flow with packets |
| `deniedports` `deniedout` `deniedin` | dynamic: packets denied | port; stem of policy versions, 0 of nobody |
| `toldports` `toldout` `toldin` | dynamic: budgets of reports | the same |
| `toldtenants` `seenout` `seenin` | dynamic: budgets of reports | label of the flows of a tenant |

A key has five parts at most: the kernel keeps a set's type for nft in 32 bits, six for each part, so of six parts nft
reads another type back, and refuses elements for a set that stands already.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from cellwall.compile.usage import ExposureForm, PolicyForm, PolicyUsage, Usage
from cellwall.lower.nft.families import FAMILIES, Family
from cellwall.model.addresses import Protocol
from cellwall.model.policy import TierName
from cellwall.names import TABLE
from cellwall.ruleset.types import KeyType, NamedSet, TableFamily

if TYPE_CHECKING:
    from cellwall.compile.predicates import TenantFlows

_SENDERS = 3 << 12
"""The most keys of a set that has one of each sender, receiver or tenant: twelve times the ports of a bridge (1,023,
net/bridge/br_private.h, BR_MAX_PORTS), as who is gone keeps a place for `_FORGET`: 1,100 would have to come and go in
each second to fill it. Of whom a full set has no room for the bound does not hold. The kernel lays out a dynamic set's
table for all of its keys at once, four buckets for three keys and as a power of two (lib/rhashtable.c), writes zeros to
them when the set is made, walks them every second and once more when it ends: 128 KiB, where 65,535 keys took 1 MiB in
each of fifty sets."""
_LATE_SENDERS = 65535
"""The same of a set whose keys keep their place for longer."""
ENDED_FLOWS = 1 << 18
"""The most keys of a set of flows that have ended, of which each tenant has thousands."""
BEGUN_AGAIN = "begunagain"
"""How the names of the sets begin of flows that have ended, and have had a SYN since: the ends of an answer to it."""
# Seconds until a rate bucket without packets is forgotten: none of those for which it is soon takes longer to be full.
_FORGET, _FORGET_LATE = 10, 60
_FULL = 1  # until a tenant that had too many flows is counted again
# Until those that have ended are gone, if nobody keeps them: `compile.wall.TIME_WAIT` and one more, written down again,
# as that module is most of the wall, and each process that attaches would import it for this number.
LINGERING = 6
_TALLIED = 120  # until a count is that does not grow, as of who is gone: whoever adds them up looks more often


def bridge_sets() -> tuple[NamedSet, ...]:
    """The sets of the bridge table."""
    pins = (NamedSet("pin" + family.suffix, ("iface_index", "ether_addr", family.key)) for family in FAMILIES)
    rates = (_rate(name, "iface_index") for name in ("arps", "solicitations", "fragments"))
    return (NamedSet("ports", ("iface_index",)), *pins, *rates, _rate("allfragments", "ether_addr"), *_PORT_REPORTS)


@lru_cache(maxsize=2)  # every operation asks, and hardly ever about another usage
def schema_of(usage: Usage) -> Mapping[tuple[TableFamily, str, str], NamedSet]:
    """(table family, table, set) → definition of every set that endpoints have elements in."""
    tables: tuple[tuple[TableFamily, tuple[NamedSet, ...]], ...] = (
        ("bridge", bridge_sets()),
        ("inet", inet_definitions(usage.exposed, usage.policies)),
    )
    return {(family, TABLE, named.name): named for family, sets in tables for named in sets}


def inet_definitions(forms: tuple[ExposureForm, ...], policies: PolicyUsage) -> tuple[NamedSet, ...]:
    """The sets of the inet table, empty, for these forms of exposure and of policies."""
    sets = [NamedSet("live", ("mark",)), *_tenant_sets()]
    for family in FAMILIES:
        sets += _family_sets(family)
        for form in forms:
            if form.kind != "source" or form.family == family.version:
                sets += _exposure_sets(form, family)
        sets += _policy_sets(policies, family)
    return (*sets, *_PORT_REPORTS, *_ENDPOINT_REPORTS)


FULL_SETS: "Mapping[TenantFlows, str]" = {
    "source": "fulltenants",
    "destination": "fullclients",
    "ended": "lingering",
    "ended-clients": "lingeringclients",
}
"""The names of the sets of tenants that have as many flows as they may, or keep too many that have ended."""

PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp")


def by_protocol(form: ExposureForm) -> bool:
    """The form has a set for each protocol, because a key with the protocol in it would have six parts."""
    return form.kind == "source-range" or (form.kind == "source" and form.bound)


def exposed_set(form: ExposureForm, family: Family, protocol: Protocol) -> str:
    """The name of the set that decides a form of exposure."""
    names = {"any": "", "range": "range", "source": "to", "source-range": "rangeto"}
    at = "at" if form.bound else ""
    length = f"p{form.prefixlen}" if form.kind == "source" else ""
    return "exposed" + at + names[form.kind] + family.suffix + length + (protocol if by_protocol(form) else "")


def proxied_set(family: Family, *, bound: bool) -> str:
    """The name of the set of ports that a proxy serves for clients of a family."""
    return ("proxiedat" if bound else "proxied") + family.suffix


def under_set(tier: TierName, what: str, family: Family) -> str:
    """The name of the set of endpoints under such a policy (`Under`)."""
    return tier + what + family.suffix


def listed_set(form: PolicyForm, family: Family) -> str:
    """The name of the set that holds the entries of a form."""
    kinds = {"any": "", "protocol": "proto", "ports": f"port{form.port_bits}"}
    return f"{form.tier}{form.list}{family.suffix}p{form.prefixlen}{kinds[form.kind]}"


def _policy_sets(policies: PolicyUsage, family: Family) -> list[NamedSet]:
    address = family.key
    of_tiers = [(tier, what) for tier in policies.tiers for what in ("limits", "blocks", "lists")]
    of_tiers += [(tier, "guards") for tier in policies.clients]
    of_tiers += [(tier, "watches") for tier in dict.fromkeys((*policies.tiers, *policies.clients))]
    rest: dict[str, tuple[KeyType, ...]] = {
        "any": (),
        "protocol": ("inet_proto",),
        "ports": ("inet_proto", "inet_service"),
    }
    links = [
        NamedSet("group" + family.suffix, (address,), ("mark",)),
        NamedSet("linked" + family.suffix, ("mark", address)),
    ]
    return [
        *(links if policies.links else ()),
        *([NamedSet("mail" + family.suffix, (address,))] if policies.mail else []),
        *(NamedSet(under_set(tier, what, family), (address,)) for tier, what in of_tiers),
        *(
            NamedSet(listed_set(form, family), (address, address, *rest[form.kind]))
            for form in policies.forms
            if form.family == family.version
        ),
    ]


def _family_sets(family: Family) -> list[NamedSet]:
    address = family.key
    suffix = family.suffix
    service: tuple[KeyType, ...] = (address, "inet_proto", "inet_service")
    ends = (address, address, *service[2:] * 2)
    return [
        NamedSet("version" + suffix, (address,), ("mark",)),
        NamedSet("tenant" + suffix, (address,), ("ct_label",)),
        NamedSet("kin" + suffix, ("mark", address)),
        NamedSet("floor" + suffix, (address,), interval=True, static=True),
        NamedSet("noclients" + suffix, (address,), interval=True, static=True),
        NamedSet("opened" + suffix, service, static=True),
        NamedSet("services" + suffix, service, static=True),
        NamedSet("publish" + suffix, service[1:], (address, "inet_service")),
        NamedSet("publishto" + suffix, service, (address, "inet_service")),
        NamedSet(proxied_set(family, bound=False), service[2:]),
        NamedSet(proxied_set(family, bound=True), (address, *service[2:])),
        NamedSet("flows" + suffix, (address,), dynamic=True, size=_SENDERS),
        NamedSet("clients" + suffix, (address,), dynamic=True, size=_SENDERS),
        _rate("pings" + suffix, address),
        _rate("inputpings" + suffix, address),
        _rate("newflows" + suffix, address),
        _rate("newclients" + suffix, address),
        _rate("sent" + suffix, address),
        _rate("got" + suffix, address),
        _slow_rate("sentbytes" + suffix, address),
        _slow_rate("gotbytes" + suffix, address),
        *(
            NamedSet(name + suffix, ends, dynamic=True, timeout=LINGERING, size=ENDED_FLOWS)
            for name in (BEGUN_AGAIN, "endedflows")
        ),
    ]


def _tenant_sets() -> Iterator[NamedSet]:
    """Of both families: a tenant is no more for having two."""
    for name in ("tenantflows", "tenantclients"):
        yield NamedSet(name, ("ct_label",), dynamic=True, size=_SENDERS)
    for flows, name in FULL_SETS.items():
        seconds = LINGERING if flows.startswith("ended") else _FULL
        yield NamedSet(name, ("ct_label",), dynamic=True, timeout=seconds, size=_SENDERS)
    for name in ("tenantended", "tenantendedclients"):
        yield _rate(name, "ct_label")
    for name in ("tenantnewflows", "tenantnewclients", "tenantsent", "tenantgot"):
        yield _rate(name, "ct_label")
    for name in ("tenantsentbytes", "tenantgotbytes"):
        yield _slow_rate(name, "ct_label")


def _exposure_sets(form: ExposureForm, family: Family) -> list[NamedSet]:
    address = family.key
    service: tuple[KeyType, ...] = (address, "inet_proto", "inet_service")
    ranged = form.kind in ("range", "source-range")
    at = (address,) if form.bound or ranged else ()
    client = (address,) if form.kind in ("source", "source-range") else ()
    key: tuple[KeyType, ...] = ("inet_service", "inet_service", *at, *client)
    key = (address, *key) if by_protocol(form) else (address, "inet_proto", *key)
    names = dict.fromkeys(exposed_set(form, family, protocol) for protocol in PROTOCOLS)
    sets = [NamedSet(name, key, interval=ranged) for name in names]
    if form.kind == "range":
        sets.append(NamedSet("publishrange" + family.suffix, service, (address,), interval=True))
    return sets


def _rate(name: str, key: KeyType) -> NamedSet:
    return NamedSet(name, (key,), dynamic=True, timeout=_FORGET, size=_SENDERS)


def _slow_rate(name: str, key: KeyType) -> NamedSet:
    return NamedSet(name, (key,), dynamic=True, timeout=_FORGET_LATE, size=_LATE_SENDERS)


def _tally(name: str, key: KeyType) -> NamedSet:
    return NamedSet(name, (key,), dynamic=True, timeout=_TALLIED, size=_LATE_SENDERS)


_PORT_REPORTS = (_slow_rate("toldports", "iface_index"), _tally("deniedports", "iface_index"))
_ENDPOINT_REPORTS = (
    *(_slow_rate(name, "ct_label") for name in ("toldtenants", "seenout", "seenin")),
    *(_slow_rate(name, "mark") for name in ("toldout", "toldin")),
    *(_tally(name, "mark") for name in ("deniedout", "deniedin")),
)
