"""How much one endpoint, or one call, may publish, and whether two bindings of it want the same port.

Whoever may publish at all asks in one call, which everybody else's writes wait for. So what it may hold is bounded, and
looking through it takes one sorting and not a comparison of each with each. Pure.
"""

from collections.abc import Iterable, Sequence

from cellwall.errors import Exhausted, InvalidSpec
from cellwall.model.addresses import Address
from cellwall.model.endpoint import AUTO, MAX_BINDINGS, PortBinding

MAX_ENTRIES = 2048
"""What the bindings of one endpoint may be in the kernel, which has one for each client network and each port of a
range that is shifted. Two of the longest such ranges."""

MAX_ENTRIES_TOGETHER = 8 * MAX_ENTRIES
"""The same for all of one batch."""


def validate_bindings(bindings: Sequence[PortBinding]) -> None:
    """Raise InvalidSpec where one endpoint's bindings are too many, or two of them claim one packet."""
    if len(bindings) > MAX_BINDINGS:
        raise InvalidSpec("expose", len(bindings), f"an endpoint has at most {MAX_BINDINGS} bindings")
    if (total := sum(map(entries, bindings))) > MAX_ENTRIES:
        raise InvalidSpec("expose", total, f"networks of clients times ports of shifted ranges: at most {MAX_ENTRIES}")
    refuse_twice(bindings)


def refuse_one_more(bindings: Sequence[PortBinding]) -> None:
    """Raise Exhausted where an endpoint with these would have published too much."""
    if len(bindings) > MAX_BINDINGS or sum(map(entries, bindings)) > MAX_ENTRIES:
        raise Exhausted(
            f"expose: {bindings[-1]}: an endpoint has at most {MAX_BINDINGS} bindings, and {MAX_ENTRIES} networks of "
            "clients times ports of shifted ranges"
        )


def validate_together(bindings: Sequence[PortBinding]) -> None:
    """Raise InvalidSpec where what one batch publishes is too much, or two bindings of it claim one packet."""
    if (total := sum(map(entries, bindings))) > MAX_ENTRIES_TOGETHER:
        raise InvalidSpec("expose", total, f"all that one batch publishes: at most {MAX_ENTRIES_TOGETHER}")
    refuse_twice(bindings, " in one batch")


def entries(binding: PortBinding) -> int:
    """How many a binding is in the kernel, of one family."""
    ports = binding.last - binding.host_port + 1 if binding.shifted else 1
    return ports * max(1, len(binding.sources))


def refuse_twice(bindings: Sequence[PortBinding], where: str = "") -> None:
    """Raise InvalidSpec for a binding that claims what one before it claims."""
    if (again := claimed_twice(bindings)) is not None:
        raise InvalidSpec("expose.host_port", str(bindings[again]), f"is asked for twice{where}")


def claimed_twice(bindings: Sequence[PortBinding]) -> int | None:
    """The place of a binding that overlaps one before it; None: there is none."""
    reach: dict[tuple[str, Address | None], tuple[int, int]] = {}  # how far what began below goes, and whose that is
    widest: dict[str, tuple[int, int]] = {}  # the same for all addresses
    for place, binding in _from_below(bindings):
        if binding.host_port == AUTO:
            continue
        everywhere = reach.get((binding.protocol, None), (0, 0))
        anywhere = widest.get(binding.protocol, (0, 0))
        here = anywhere if binding.bind is None else reach.get((binding.protocol, binding.bind), (0, 0))
        last, other = max(everywhere, here)
        if last >= binding.host_port:
            return max(place, other)
        at = (binding.protocol, binding.bind)
        reach[at] = max(reach.get(at, (0, 0)), (binding.last, place))
        widest[binding.protocol] = max(anywhere, (binding.last, place))
    return None


def _from_below(bindings: Sequence[PortBinding]) -> Iterable[tuple[int, PortBinding]]:
    return sorted(enumerate(bindings), key=lambda one: one[1].host_port)
