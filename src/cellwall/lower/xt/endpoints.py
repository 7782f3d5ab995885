"""An endpoint and its port bindings as set entries and DNAT rules: all that an attach adds to the kernel's rules.

iptables has no map from ports to destinations, so a published port is a rule in `B9-DNAT` for each client network; the
rest is entries. A new flow is led to an endpoint only by such a rule, which names bind address, host port and client;
the exposure sets are asked about every packet after it.

Hot path: plain ints, no text, no look at any other endpoint.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from cellwall.compile.usage import interval_range
from cellwall.lower.xt.features import PinForm
from cellwall.lower.xt.sets import Entry, set_name
from cellwall.lower.xt.tables import XtRule
from cellwall.model.addresses import PROTOCOL_NUMBERS, Address, Prefix
from cellwall.model.endpoint import Endpoint, PortBinding
from cellwall.model.network import default_mac
from cellwall.model.policy import NO_TIERS, Tiers
from cellwall.model.versions import stems

Pins = dict[int, PinForm | None]
"""IP version → how endpoints are pinned there (see `features.pin_form`)."""


class OwnedEntry(msgspec.Struct, frozen=True):
    """An entry and the full name of the set it belongs to."""

    set: str
    entry: Entry


class OwnedRule(msgspec.Struct, frozen=True):
    """A rule of `B9-DNAT` and its IP version."""

    version: Literal[4, 6]
    rule: XtRule


class Holdings(msgspec.Struct, frozen=True):
    """Everything the kernel holds of some endpoints. Entries are in the order in which adding them opens: pins, or
    what tells that there is such an endpoint at all, last.
    Deleting goes the other way round."""

    entries: tuple[OwnedEntry, ...]
    rules: tuple[OwnedRule, ...]


class Change(msgspec.Struct, frozen=True):
    """What leads from one holding to another. ipset has no transaction over several sets: `added` comes first, then
    rules, then `removed`. `renewed` are entries whose mark alone changes, policy versions: adding one again replaces
    the mark, and last, so that no flow is stamped with a version while what judges is in part that of another."""

    added: tuple[OwnedEntry, ...]
    removed: tuple[OwnedEntry, ...]
    renewed: tuple[OwnedEntry, ...]
    rules_added: tuple[OwnedRule, ...]
    rules_removed: tuple[OwnedRule, ...]


def holdings(endpoints: Iterable[Endpoint], pins: Pins) -> Holdings:
    """What these endpoints are in sets and rules."""
    entries: list[OwnedEntry] = []
    rules: list[OwnedRule] = []
    for endpoint in endpoints:
        for binding in endpoint.bindings:
            if binding.proxy and pins[binding.proxy] is not None:
                entries += _published(binding.proxy, binding)  # it is led nowhere: the node's own port
        for version, address in _addresses(endpoint, pins):
            if endpoint.tiers != NO_TIERS:
                # here and not above: most endpoints have no policy
                from cellwall.lower.xt.policies import policy_entries

                entries += policy_entries(version, int(address), endpoint.tiers)
            for binding in endpoint.bindings:
                if _applies(binding, version):
                    clients = _clients(binding, version, endpoint.tiers)
                    entries += _exposure(version, int(address), binding, clients)
                    entries += _published(version, binding)
                    rules += _publish(version, address, binding, clients)
            entries += _identity(version, int(address), endpoint, pins[version])
    return Holdings(tuple(dict.fromkeys(entries)), tuple(dict.fromkeys(rules)))


def changes(before: Holdings, after: Holdings) -> Change:
    """The difference of two holdings."""
    was, will = set(before.entries), set(after.entries)
    had, kept = {_key(owned) for owned in before.entries}, {_key(owned) for owned in after.entries}
    old, new = set(before.rules), set(after.rules)
    return Change(
        added=tuple(owned for owned in after.entries if owned not in was and _key(owned) not in had),
        removed=tuple(o for o in reversed(before.entries) if o not in will and _key(o) not in kept),
        renewed=tuple(owned for owned in after.entries if owned not in was and _key(owned) in had),
        rules_added=tuple(rule for rule in after.rules if rule not in old),
        rules_removed=tuple(rule for rule in before.rules if rule not in new),
    )


def _key(owned: OwnedEntry) -> tuple[str, Entry]:
    return owned.set, msgspec.structs.replace(owned.entry, mark=0)


def _addresses(endpoint: Endpoint, pins: Pins) -> Iterator[tuple[Literal[4, 6], Address]]:
    if pins[4] is not None:
        yield 4, endpoint.address4
    if endpoint.address6 is not None and pins[6] is not None:
        yield 6, endpoint.address6


def _applies(binding: PortBinding, version: int) -> bool:
    if version == binding.proxy or (binding.bind is not None and binding.bind.version != version):
        return False
    return not binding.sources or any(source.version == version for source in binding.sources)


def _identity(version: int, own: int, endpoint: Endpoint, form: PinForm | None) -> Iterator[OwnedEntry]:
    first = stems((*endpoint.past_generations, endpoint.generation))[0]  # they come round again: not the smallest
    yield OwnedEntry(set_name("born", version), Entry(own, mark=first))
    current = OwnedEntry(set_name("version", version), Entry(own, mark=endpoint.generation))
    if form != "program":
        yield current
        yield OwnedEntry(set_name("pin", version), Entry(own, mac=endpoint.mac))
        return
    if endpoint.mac != default_mac(endpoint.address4):
        yield OwnedEntry(set_name("oui", version), Entry(own, mark=endpoint.mac >> 32))
        yield OwnedEntry(set_name("pin", version), Entry(own, mark=endpoint.mac & 0xFFFFFFFF))
    yield current


Clients = tuple[Prefix | None, ...]
"""Client networks of a family; None: anyone. Empty: nobody."""


def _clients(binding: PortBinding, version: int, tiers: Tiers) -> Clients:
    """Those that a binding and all policies admit."""
    clients = _networks(binding.sources, version) if binding.sources else (None,)
    for _, policy in tiers.named() if tiers != NO_TIERS else ():
        if policy.sources is not None and not policy.monitor:
            admitted = _networks(policy.sources, version)
            both = (_common(one, other) for one in clients for other in admitted)
            clients = tuple(dict.fromkeys(prefix for met, prefix in both if met))
    return clients


def _networks(prefixes: Iterable[Prefix], version: int) -> Clients:
    own = tuple(dict.fromkeys(prefix for prefix in prefixes if prefix.version == version))
    return (None,) if any(prefix.prefixlen == 0 for prefix in own) else own


def _common(one: Prefix | None, other: Prefix | None) -> tuple[bool, Prefix | None]:
    """Whether two networks meet, and where: the one is inside the other, or they have nothing in common."""
    if one is None or other is None:
        return True, one or other
    narrow, wide = (one, other) if one.prefixlen >= other.prefixlen else (other, one)
    return narrow.network_address in wide, narrow


def _exposure(version: int, own: int, binding: PortBinding, clients: Clients) -> Iterator[OwnedEntry]:
    protocol, last = PROTOCOL_NUMBERS[binding.protocol], binding.port + binding.last - binding.host_port
    # A range is an entry for each port: entries come and go one by one, and another binding may have a part of it.
    for port in range(binding.port, last + 1):
        for client in clients:
            entry = Entry(own, protocol=protocol, port=port, last=port)
            if client is None:
                yield OwnedEntry(set_name("exposed", version), entry)
            else:
                network, bits = int(client.network_address), client.prefixlen
                narrowed = msgspec.structs.replace(entry, client=network, client_bits=bits)
                yield OwnedEntry(set_name("exposedto", version), narrowed)


def _published(version: int, binding: PortBinding) -> Iterator[OwnedEntry]:
    """Where on the node flows of clients begin, which are forgotten as soon as those that sandboxes open. No set takes
    the network of everything: these are its halves."""
    if binding.protocol != "tcp":
        return
    bits = 32 if version == 4 else 128
    everywhere = ((0, 1), (1 << bits - 1, 1))
    for address, length in everywhere if binding.bind is None else ((int(binding.bind), bits),):
        for port in range(binding.host_port, binding.last + 1):
            entry = Entry(address, length, PROTOCOL_NUMBERS["tcp"], port, port)
            yield OwnedEntry(set_name("published", version), entry)


def _publish(version: Literal[4, 6], address: Address, binding: PortBinding, clients: Clients) -> Iterator[OwnedRule]:
    host = f"{binding.host_port}:{binding.last}" if binding.last != binding.host_port else str(binding.host_port)
    bits = 32 if version == 4 else 128
    for client in clients:
        matches: tuple[str, ...] = () if client is None else ("-s", str(client))
        matches += () if binding.bind is None else ("-d", f"{binding.bind}/{bits}")
        matches += ("-p", binding.protocol, "-m", binding.protocol, "--dport", host)
        yield OwnedRule(version, XtRule(matches, ("-j", "DNAT", "--to-destination", _target(address, binding))))


def _target(address: Address, binding: PortBinding) -> str:
    shown = f"[{address}]" if address.version == 6 else str(address)
    if interval_range(binding):
        return str(address)  # without a port the flow keeps its own
    if binding.last == binding.host_port:
        return f"{shown}:{binding.port}"
    last = binding.port + binding.last - binding.host_port
    return f"{shown}:{binding.port}-{last}/{binding.host_port}"
