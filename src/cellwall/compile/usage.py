"""Which forms of exposure are in use: the only thing about endpoints that rules depend on.

Source networks are matched by one hash set per prefix length (an interval set of all of them would cost O(N) per
change), so a prefix length that nobody uses has no rule.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from cellwall.model.endpoint import PortBinding


class ExposureForm(msgspec.Struct, frozen=True, order=True):
    """How a binding is matched: a port open to anyone, a range, or either open to client networks. `family` and
    `prefixlen` are those of the client networks of a single port. `bound`: the port is published at one address of
    the node, and what it admits is admitted there only; a range always says where."""

    kind: Literal["any", "range", "source", "source-range"]
    family: int = 0
    prefixlen: int = 0
    bound: bool = False


class Usage(msgspec.Struct, frozen=True):
    """`ranges`: some binding is a range with equal ports on both sides; `range_sources`: some such range has source
    networks; `sources`: (family, prefix length, whether the port has a bind address) of source networks of single
    ports."""

    ranges: bool = False
    range_sources: bool = False
    sources: tuple[tuple[int, int, bool], ...] = ()

    @property
    def exposed(self) -> tuple[ExposureForm, ...]:
        """The forms that a flow is checked against, in this order."""
        forms = [ExposureForm("any"), ExposureForm("any", bound=True)]
        if self.ranges:
            forms.append(ExposureForm("range"))
        forms += [ExposureForm("source", family, length, bound) for family, length, bound in self.sources]
        if self.range_sources:
            forms.append(ExposureForm("source-range"))
        return tuple(forms)

    def union(self, other: "Usage") -> "Usage":
        """What either uses. A form that came into use stays until `down`: removing its sets would replace tables."""
        return Usage(
            self.ranges or other.ranges,
            self.range_sources or other.range_sources,
            tuple(sorted({*self.sources, *other.sources})),
        )


def interval_range(binding: PortBinding) -> bool:
    """The binding is one interval in the kernel: a range whose host and container ports are equal."""
    return binding.last != binding.host_port and not binding.shifted


def usage_of(bindings: Iterable[PortBinding]) -> Usage:
    """The forms that these bindings need."""
    ranges = range_sources = False
    sources: set[tuple[int, int, bool]] = set()
    for binding in bindings:
        if interval_range(binding):
            ranges = True
            range_sources = range_sources or bool(binding.sources)
        else:
            bound = binding.bind is not None
            sources.update((source.version, source.prefixlen, bound) for source in binding.sources)
    return Usage(ranges, range_sources, tuple(sorted(sources)))
