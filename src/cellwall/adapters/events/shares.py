"""What stays of event files that go: the latest events of each tenant, up to an equal share, and within that those of
each of its containers.

Files go by their age, and whoever has most denied decides how soon: at the rate that one tenant's attempts may be told
of, one sandbox fills all files in hours. So what each has up to a share stays, and no tenant's events go for another's
that has more than that. Who has less than an equal share leaves the rest to the others. Of a tenant's share half is its
containers', in equal parts by the same rule, so that none has its neighbour's events forgotten, and the rest is the
tenant's latest: containers come and go, and those that are no more would have all of it in the end.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec


class _Whose(msgspec.Struct, frozen=True, gc=False):
    tenant: str = ""
    container: str = ""


_WHOSE = msgspec.json.Decoder(_Whose)


MAX_APART = 1024
"""Containers of a tenant that have parts of their own, as many as a bridge has ports; later ones have one together."""

Sizes = dict[str, Counter[str]]
"""Octets, by tenant and container."""


def keep_shares(paths: Sequence[str], into: str, octets: int) -> None:
    """Replace `into` by the latest events of each tenant in these files, the oldest file first, of which `into` may be
    one: by `octets` at most. A container without a tenant is one to itself. Raises OSError, and then `into` is as it
    was. The files are read twice, so that no more is in memory than a number for each tenant and container."""
    sizes = Sizes()
    for tenant, container, line in _lines(paths):
        own = sizes.get(tenant) or sizes.setdefault(tenant, Counter())
        known = container if container in own else _apart(own, container)
        own[known] = own.get(known, 0) + len(line)  # as += of a Counter, in half of its time
    beside = f"{into}.new"
    try:
        with open(beside, "wb", opener=_of_root) as file:
            file.writelines(_latest(paths, sizes, octets))
        os.replace(beside, into)
    except OSError:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _apart(own: Mapping[str, int], container: str) -> str:
    """What the events of one that is not known yet are counted under: itself, or with all that come when there are
    enough."""
    return container if len(own) < MAX_APART else ""


def share_of(sizes: Sequence[int], octets: int) -> int:
    """The largest share by which all together have no more than `octets`, each as much as it has or that share."""
    left = octets
    for done, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - done)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def _latest(paths: Sequence[str], sizes: Sizes, octets: int) -> Iterator[bytes]:
    """The lines, without the oldest of each tenant that has some beyond its share, which are those beyond the parts of
    its containers: there are always as many, as the parts are no more than half."""
    totals = {tenant: own.total() for tenant, own in sizes.items()}
    share = share_of(list(totals.values()), octets)
    left = {tenant: total - share for tenant, total in totals.items()}
    parts = {tenant: share_of(list(own.values()), share // 2) for tenant, own in sizes.items() if left[tenant] > 0}
    for tenant, container, line in _lines(paths):
        if left[tenant] > 0:
            own = sizes[tenant]
            known = container if container in own else ""
            if own[known] > parts[tenant]:
                own[known] -= len(line)
                left[tenant] -= len(line)
                continue
        yield line


def _lines(paths: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
    """Tenant and container of each, and the line with its end; not one that a crash tore."""
    for path in paths:
        try:
            file = open(path, "rb")  # noqa: SIM115
        except FileNotFoundError:
            continue
        with file:
            for line in file:
                try:
                    event = _WHOSE.decode(line)
                except ValueError:
                    continue
                if line.endswith(b"\n"):
                    yield event.tenant or f"/{event.container}", event.container, line


def _of_root(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
