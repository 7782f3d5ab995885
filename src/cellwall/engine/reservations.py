"""Reserved ports: which container a host port is kept for, until it is published or given back.

A reservation lives in a socket that some process holds, the daemon or a `Wall`; the journal says whose it is. So one
whose holder has died is over by itself: nobody has the port, which is how that is noticed. The record is one value, as
only who reserves, publishes or detaches reads it.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from cellwall.engine.site import Site
from cellwall.errors import Exhausted, Taken
from cellwall.model.endpoint import AUTO, Endpoint, PortBinding
from cellwall.model.identifiers import parse_container_id, parse_tenant
from cellwall.model.reserved import (
    DEFAULT_LEASE,
    MAX_OF_TENANT,
    MAX_RESERVED,
    Reservation,
    ReservedPort,
    Span,
    candidates,
    parse_spans,
    validate_count,
    validate_lease,
)

_RECORD = "reserved"


def validate_reservation(container: str, tenant: str | None, count: int, seconds: float) -> None:
    """Raise InvalidSpec for what nobody can have reserved."""
    parse_container_id(container)
    if tenant is not None:
        parse_tenant(tenant)
    validate_count(count)
    validate_lease(seconds)


def reserve_ports(site: Site, container: str, tenant: str, count: int, seconds: float) -> Reservation:
    """Have `count` ports held for a container, those that are already among them; more than that are given back.
    Exhausted where there are no more. The caller holds the writer lock."""
    rows = _standing(site)
    site.holds().release_others({row.port for row in rows})  # also what another process gave back
    own = [row for row in rows if (row.container, row.tenant) == (container, tenant)]
    others = [row for row in rows if row not in own]
    _refuse_too_many(others, tenant, count)
    until = time.monotonic() + seconds
    kept = own[:count]
    made: list[ReservedPort] = []
    try:
        for port in _free_ports(site, {row.port for row in rows}):
            if len(kept) + len(made) == count:
                break
            if (inode := site.holds().hold(port)) is not None:
                made.append(ReservedPort(port, container, tenant, until, inode))
        if len(kept) + len(made) < count:
            raise Exhausted(f"count: {count}: {len(kept) + len(made)} ports of {_range_text(site)} are free")
        ours = [*(msgspec.structs.replace(row, until=until) for row in kept), *made]
        with site.journal.transaction():
            _write(site, [*others, *ours])
    except BaseException:
        for row in made:
            site.holds().release(row.port)
        raise
    for row in own[count:]:
        site.holds().release(row.port)
    return Reservation(container, tenant, tuple(row.port for row in ours), seconds)


def with_free_ports(
    site: Site, container: str, tenant: str, bindings: Sequence[PortBinding], former: Sequence[PortBinding]
) -> tuple[PortBinding, ...]:
    """The bindings with a host port for each that would have any: that of one among the `former` which is the same
    otherwise, else one that is reserved for the container and not published, else a new one, which is reserved, too."""
    low, high = site.settings.reserved_ports
    left = [one for one in former if one not in bindings and low <= one.host_port <= high]
    settled: list[PortBinding] = []
    for binding in bindings:
        same = (one for one in left if msgspec.structs.replace(one, host_port=AUTO) == binding)
        if binding.host_port == AUTO and (found := next(same, None)) is not None:
            left.remove(found)
            binding = found
        settled.append(binding)
    missing = sum(binding.host_port == AUTO for binding in settled)
    ports = iter(_unpublished_ports(site, container, tenant, missing) if missing else ())
    return tuple(
        msgspec.structs.replace(binding, host_port=next(ports)) if binding.host_port == AUTO else binding
        for binding in settled
    )


def _unpublished_ports(site: Site, container: str, tenant: str, number: int) -> list[int]:
    own = [row.port for row in _standing(site) if (row.container, row.tenant) == (container, tenant)]
    free = [port for port in own if not _published(site, port)]
    if len(free) < number:
        count = len(own) + number - len(free)
        validate_count(count)
        made = reserve_ports(site, container, tenant, count, DEFAULT_LEASE).ports
        free += [port for port in made if port not in own]
    return free[:number]


def _published(site: Site, port: int) -> bool:
    return any(site.journal.binding_holder(PortBinding(kind, port, port)) for kind in ("tcp", "udp"))


def release_ports(site: Site, container: str, tenant: str | None) -> int:
    """Give back what is reserved for a container, of one tenant or (None) of any; how many ports there were. What is
    published stays so."""
    return _drop(site, lambda row: row.container == container and tenant in (None, row.tenant))


def release_reserved(site: Site, detached: Iterable[Endpoint]) -> None:
    """Give back what was reserved for these containers, where nothing of them is attached any more."""
    if site.journal.get(_RECORD) is None:
        return
    left = {(row.key.container_id, row.tenant) for row in site.journal.endpoints()}
    gone = {(row.key.container_id, row.tenant) for row in detached} - left
    _drop(site, lambda row: any(row.container == name and row.tenant in ("", tenant) for name, tenant in gone))


def expire_reserved(site: Site) -> list[str]:
    """Give back what waited for its container for longer than it was to, a line each; and hold again what a holder lost
    to a program that has let go by now."""
    rows, now = _read(site), time.monotonic()
    standing = _standing(site)
    site.holds().release_others({row.port for row in standing})
    held = [_held_again(site, row) for row in standing]
    if held != rows:
        with site.journal.transaction():
            _write(site, held)
    gone = [row for row in rows if row not in standing]
    return [f"port {row.port} is not reserved for {row.container} any more" for row in gone if row.until <= now]


def hold_reserved(site: Site, given: Mapping[int, Sequence[int]]) -> list[str]:
    """Hold all that is on record, as whoever writes from now on; a line for each port that a program has taken.
    `given`: descriptors of the process before, by port."""
    rows = _read(site)
    held, lost = [], []
    for row in rows:
        inode = site.holds().hold(row.port, given.get(row.port, ()))
        if inode is None:
            lost.append(f"port {row.port}, reserved for {row.container}, is held by another program")
        held.append(msgspec.structs.replace(row, inode=inode or 0))
    if held != rows:
        with site.journal.transaction():
            _write(site, held)
    return lost


def reservations(site: Site) -> tuple[Reservation, ...]:
    """What stands, by container."""
    now, found = time.monotonic(), dict[tuple[str, str], Reservation]()
    for row in sorted(_standing(site), key=lambda row: (row.container, row.tenant, row.port)):
        key = (row.container, row.tenant)
        ports = (*found[key].ports, row.port) if key in found else (row.port,)
        found[key] = Reservation(*key, ports, max(0.0, round(row.until - now, 1)))
    return tuple(found.values())


def refuse_reserved(site: Site, container: str, tenant: str, bindings: Sequence[PortBinding]) -> None:
    """Raise Taken for a host port that is kept for another container."""
    for row in _read(site):
        if row.container == container and row.tenant in ("", tenant):
            continue
        for binding in bindings:
            if binding.host_port <= row.port <= binding.last and _stands(site, row):
                raise Taken(f"expose.host_port: {binding}", f"{row.port} is reserved for", row.container)


def holding_sockets(site: Site) -> frozenset[int]:
    """The inodes of UDP sockets that only hold a port."""
    return frozenset(row.inode for row in _read(site) if row.inode)


def _standing(site: Site) -> list[ReservedPort]:
    return [row for row in _read(site) if _stands(site, row)]


def _stands(site: Site, row: ReservedPort) -> bool:
    """Somebody has the port, or the daemon that would is this process; and its time is not over or its container is
    there."""
    holds = site.holds()
    if not (holds.lasting or holds.holds(row.port)) and holds.vacant(row.port):
        return False
    return row.until > time.monotonic() or _is_attached(site, row)


def _is_attached(site: Site, row: ReservedPort) -> bool:
    return any(row.tenant in ("", tenant) for tenant in site.journal.tenants_of(row.container))


def _held_again(site: Site, row: ReservedPort) -> ReservedPort:
    inode = site.holds().hold(row.port)
    return row if inode is None else msgspec.structs.replace(row, inode=inode)


def _free_ports(site: Site, reserved: set[int]) -> Iterator[int]:
    """Ports of the configured range that nothing else may want: neither a connection of the node's own, nor a
    translated flow, a declared service, a published port or another reservation."""
    spared = [*_spared(site), *((port, port) for port in reserved)]
    low, high = site.settings.reserved_ports
    for port in candidates((low, high), spared, int.from_bytes(os.urandom(4))):
        if not _published(site, port):
            yield port


def _spared(site: Site) -> list[Span]:
    told = [site.sysctls.read(f"net.ipv4.{name}") or "" for name in ("ip_local_port_range", "ip_local_reserved_ports")]
    services = [(one.port, one.port) for one in site.settings.services]
    return [site.settings.nat_ports, *(span for text in told for span in parse_spans(text)), *services]


def _range_text(site: Site) -> str:
    low, high = site.settings.reserved_ports
    return f"{low}-{high} (node.reserved_ports), without ip_local_port_range, node.nat_ports and what is in use,"


def _refuse_too_many(others: Sequence[ReservedPort], tenant: str, count: int) -> None:
    if len(others) + count > MAX_RESERVED:
        raise Exhausted(f"count: {count}: {len(others)} ports are reserved already, of {MAX_RESERVED} at most")
    of_tenant = sum(row.tenant == tenant for row in others)
    if tenant and of_tenant + count > MAX_OF_TENANT:
        raise Exhausted(f"count: {count}: tenant {tenant} has {of_tenant} ports reserved, of {MAX_OF_TENANT} at most")


def _drop(site: Site, gone: Callable[[ReservedPort], bool]) -> int:
    rows = _read(site)
    dropped = [row for row in rows if gone(row)]
    if dropped:
        with site.journal.transaction():
            _write(site, [row for row in rows if not gone(row)])
        for row in dropped:
            site.holds().release(row.port)
    return len(dropped)


def _read(site: Site) -> list[ReservedPort]:
    return msgspec.json.decode(site.journal.get(_RECORD) or b"[]", type=list[ReservedPort])


def _write(site: Site, rows: Sequence[ReservedPort]) -> None:
    """In the caller's transaction."""
    if rows:
        site.journal.put(_RECORD, msgspec.json.encode(rows))
    else:
        site.journal.drop(_RECORD)
