"""Reserved ports: which container a host port is kept for, until it is published or given back.

A reservation lives in a socket that some process holds, the daemon or a `Wall`; the journal says whose it is. So one
whose holder has died is over by itself: nobody has the port, which is how that is noticed. The record is one value, as
only who reserves, publishes or detaches reads it.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from cellwall.engine.attachments.detach import Coming
from cellwall.engine.ports.free_ports import free_ports, is_published, range_text
from cellwall.engine.site import Site
from cellwall.errors import AlreadyExists, Exhausted, Taken, printable
from cellwall.model.endpoint import Endpoint, PortBinding
from cellwall.model.reserved import DEFAULT_LEASE, Reservation, ReservedPort, refuse_too_many

_RECORD = "reserved"
"""What of them is on record, in the journal."""


def refuse_anothers(site: Site, container: str, tenant: str, sees: Callable[[str], bool]) -> None:
    """Raise AlreadyExists where ports are reserved for a container of that id, and another tenant's that who asks
    `sees`, or ("") nobody's: what is kept for one of them is not the other's to publish, and no two of them are
    attached at once. Who has some already may ask again."""
    rows = [row for row in _standing(site) if row.container == container]
    if any(row.is_for(container, tenant) for row in rows):
        return
    for row in rows:
        if sees(row.tenant):
            shown = printable(tenant) if tenant else "none"
            raise AlreadyExists(f"tenant: {shown}: ports are reserved for container {container} {_of(row.tenant)}")


def reserve_ports(
    site: Site,
    container: str,
    tenant: str,
    count: int,
    seconds: float,
    user: int | None = None,
    spared: Collection[int] = (),
) -> Reservation:
    """Have `count` ports held for a container, of a tenant or ("") of none, those that are already among them; more
    than that are given back. No other is one of those that are `spared`. `user`: who asks, where that is not root.
    Exhausted where there are no more. The caller holds the writer lock."""
    rows = _standing(site)
    site.holds().release_others({row.port for row in rows})  # also what another process gave back
    own = [row for row in rows if (row.container, row.tenant) == (container, tenant)]
    others = [row for row in rows if row not in own]
    kept, until = own[:count], time.monotonic() + seconds
    refuse_too_many(others, kept, tenant, user, count, site.holds().most)
    made: list[ReservedPort] = []
    try:
        for port in free_ports(site, {row.port for row in rows}.union(spared)):
            if len(kept) + len(made) == count:
                break
            if (inode := site.holds().hold(port)) is not None:
                made.append(ReservedPort(port, container, tenant, until, inode, user, exact=True))
        if len(kept) + len(made) < count:
            raise Exhausted(f"count: {count}: {len(kept) + len(made)} ports of {range_text(site)} are free")
        ours = [*(msgspec.structs.replace(row, until=until, exact=True) for row in kept), *made]
        with site.journal.transaction():
            _write(site, [*others, *ours])
    except BaseException:
        for row in made:
            site.holds().release(row.port)
        raise
    for row in own[count:]:
        site.holds().release(row.port)
    return Reservation(container, tenant, tuple(row.port for row in ours), seconds)


@contextmanager
def taken_back_if_refused(site: Site) -> Iterator[None]:
    """Have what is reserved meanwhile given back where this ends in an error, and what was reserved before wait no
    longer than it was to. What broke off past its change has published its ports, and keeps them."""
    before = {_whose(row): row for row in _read(site)}
    try:
        yield
    except BaseException:
        rows = _read(site)
        made = {row.port for row in rows if _whose(row) not in before and not is_published(site, row.port)}
        left = [before.get(_whose(row), row) for row in rows if row.port not in made]
        if left != rows:
            with site.journal.transaction():
                _write(site, left)
        for port in made:
            site.holds().release(port)
        raise


def release_ports(site: Site, container: str, tenant: str | None) -> int:
    """Give back what is reserved for a container, of one tenant or (None) of any; how many ports there were. What is
    published stays so."""
    return _drop(site, lambda row: row.container == container and tenant in (None, row.tenant))


def strike_reserved(site: Site, detached: Iterable[Endpoint], coming: Coming) -> list[int]:
    """Take off the record what was reserved for these containers, where nothing of them is on it any more; the ports,
    which are the caller's to let go of. What was reserved for those that are `coming` waits for them. In its
    transaction: a death behind that leaves sockets alone, which go with the process, or which the next daemon lets go
    of."""
    rows = _read(site)
    left = {*coming, *((row.key.container_id, row.tenant) for row in site.journal.endpoints())}
    gone = {(row.key.container_id, row.tenant) for row in detached} - left
    struck = [row.port for row in rows if any(row.is_for(*whose) for whose in gone)]
    kept = [_waiting_on(row, coming) for row in rows if row.port not in struck]
    if kept != rows:
        _write(site, kept)
    return struck


def _waiting_on(row: ReservedPort, coming: Coming) -> ReservedPort:
    """With a time anew where it would be nobody's before its container is there, whose it was for longer than that."""
    now = time.monotonic()
    lapsed = row.until <= now and any(row.is_for(*whose) for whose in coming)
    return msgspec.structs.replace(row, until=now + DEFAULT_LEASE) if lapsed else row


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


def reserved_for(site: Site, container: str, tenant: str) -> list[int]:
    """The ports that stand for one container."""
    return [row.port for row in _standing(site) if (row.container, row.tenant) == (container, tenant)]


def refuse_reserved(site: Site, container: str, tenant: str, bindings: Sequence[PortBinding]) -> None:
    """Raise Taken for a host port that is kept for another container than this one of this tenant, or ("") of none."""
    for row in _read(site):
        if row.is_for(container, tenant):
            continue
        for binding in bindings:
            if binding.host_port <= row.port <= binding.last and _stands(site, row):
                holder = row.container
                if holder == container:
                    holder = f"{holder} {_of(row.tenant)} (tenant: {tenant or 'none'})"
                raise Taken(f"expose.host_port: {binding}", f"{row.port} is reserved for", holder)


def holding_sockets(site: Site) -> frozenset[int]:
    """The inodes of UDP sockets that only hold a port."""
    return frozenset(row.inode for row in _read(site) if row.inode)


def _of(tenant: str) -> str:
    return f"of tenant {tenant}" if tenant else "without a tenant"


def _whose(row: ReservedPort) -> tuple[int, str, str]:
    return row.port, row.container, row.tenant


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
    return any(row.is_for(row.container, tenant) for tenant in site.journal.tenants_of(row.container))


def _held_again(site: Site, row: ReservedPort) -> ReservedPort:
    inode = site.holds().hold(row.port)
    return row if inode is None else msgspec.structs.replace(row, inode=inode)


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
