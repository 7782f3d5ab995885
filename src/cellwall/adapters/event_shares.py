"""What stays of event files that go: the latest events of each tenant, up to an equal share.

Files go by their age, and whoever has most denied decides how soon: at the rate that one tenant's attempts may be told
of, one sandbox fills all files in hours. So what each has up to a share stays, and no tenant's events go for another's
that has more than that. Who has less than an equal share leaves the rest to the others.
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


def keep_shares(paths: Sequence[str], into: str, octets: int) -> None:
    """Replace `into` by the latest events of each tenant in these files, the oldest file first, of which `into` may be
    one: by `octets` at most. A container without a tenant is one to itself. Raises OSError, and then `into` is as it
    was. The files are read twice, so that no more is in memory than a number for each tenant."""
    sizes = Counter[str]()
    for whose, line in _lines(paths):
        sizes[whose] += len(line)
    share = share_of(list(sizes.values()), octets)
    beside = f"{into}.new"
    try:
        with open(beside, "wb", opener=_of_root) as file:
            file.writelines(_latest(paths, {whose: size - share for whose, size in sizes.items()}))
        os.replace(beside, into)
    except OSError:
        with suppress(OSError):
            os.unlink(beside)
        raise


def share_of(sizes: Sequence[int], octets: int) -> int:
    """The largest share by which all together have no more than `octets`, each as much as it has or that share."""
    left = octets
    for done, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - done)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def _latest(paths: Sequence[str], beyond: Mapping[str, int]) -> Iterator[bytes]:
    """The lines, without the oldest of each tenant that has some beyond its share."""
    left = dict(beyond)
    for whose, line in _lines(paths):
        if left[whose] > 0:
            left[whose] -= len(line)
        else:
            yield line


def _lines(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Whose each is, and the line with its end; not one that a crash tore."""
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
                    yield event.tenant or f"/{event.container}", line


def _of_root(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
