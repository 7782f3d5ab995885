"""What a run of the suite found, as a document and as a table."""

from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from cellwall.attack.catalogue import CATALOGUE, UNCOVERED_PARTS
from cellwall.attack.functional import Done
from cellwall.attack.probe import Layer, Probe
from cellwall.attack.suite import Control, Measured, reason

SOUND, WRONG, THROUGH, MISSED = 0, 1, 10, 11


class ProbeResult(msgspec.Struct, frozen=True):
    """One probe. `seen`: what was seen of it where it must not arrive; empty: nothing.
    `kernel`: why it cannot succeed whatever the wall does. `control` is None where none was asked for or none says
    anything about it. `missed`: why it could not be measured: it was neither through nor was it stopped."""

    id: str
    row: str
    title: str
    layers: tuple[Layer, ...]
    seen: str
    kernel: str = ""
    control: Control | None = None
    missed: str = ""

    @property
    def through(self) -> bool:
        """Whether the attack succeeded."""
        return bool(self.seen)

    @property
    def not_measured(self) -> str:
        """Why nothing can be said of it, or of what its control says; empty where that can be said."""
        if self.missed or self.control is None:
            return self.missed
        return self.control.missed and f"control: {self.control.missed}"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `against`: what was attacked, with its version. `left_out`: probes that make no sense there."""

    against: str
    seconds: float
    probes: tuple[ProbeResult, ...]
    functional: tuple[Done, ...] = ()
    left_out: int = 0

    @property
    def through(self) -> tuple[ProbeResult, ...]:
        """The probes that got through."""
        return tuple(result for result in self.probes if result.through)

    @property
    def unsound(self) -> tuple[ProbeResult, ...]:
        """The probes whose claim about layers a control refutes."""
        return tuple(result for result in self.probes if result.control and not result.control.sound)

    @property
    def missed(self) -> tuple[ProbeResult, ...]:
        """The probes that could not be measured, or whose controls could not."""
        return tuple(result for result in self.probes if result.not_measured)

    @property
    def broken(self) -> tuple[Done, ...]:
        """Work that failed."""
        return tuple(done for done in self.functional if done.failure)

    @property
    def status(self) -> int:
        """The exit status: something through, else something wrong with the suite or with the work, else something
        that could not be measured, else 0."""
        if self.through:
            return THROUGH
        if self.unsound or self.broken:
            return WRONG
        return MISSED if self.missed else SOUND


def result_of(probe: Probe, found: Measured, control: Control | None = None) -> ProbeResult:
    """What became of one probe."""
    return ProbeResult(
        probe.id,
        probe.row,
        probe.title,
        tuple(sorted(probe.layers)),
        found.seen.get(probe.id, ""),
        probe.kernel,
        control,
        reason(found.missed[probe.id]) if probe.id in found.missed else "",
    )


def document(report: Report) -> dict[str, object]:
    """The report for programs."""
    return {
        "against": report.against,
        "seconds": round(report.seconds, 3),
        "status": report.status,
        "through": [result.id for result in report.through],
        "unsound": [result.id for result in report.unsound],
        "not_measured": {result.id: result.not_measured for result in report.missed},
        "broken": [done.id for done in report.broken],
        "left_out": report.left_out,
        "probes": [{**msgspec.to_builtins(result), "through": result.through} for result in report.probes],
        "functional": [msgspec.to_builtins(done) for done in report.functional],
        "not_covered": not_covered(),
    }


def not_covered() -> dict[str, str]:
    """Row → why nothing, or not all of it, is covered."""
    return {row.id: row.missing for row in CATALOGUE if row.missing} | UNCOVERED_PARTS


def render(report: Report, *, covered: bool = True) -> str:
    """The report for people."""
    lines = [f"{report.against}", "", f"{'row':<4} {'probes':>6} {'through':>7}  attack"]
    rows = {name: list(group) for name, group in groupby(report.probes, key=lambda result: result.row)}
    for row in CATALOGUE:
        results = rows.get(row.id)
        if results is not None:
            through = [result for result in results if result.through]
            lines.append(f"{row.id:<4} {len(results):>6} {len(through):>7}  {row.title}")
            lines += [f"{'':20}THROUGH {result.id}: {result.title}; {result.seen}" for result in through]
    lines += [f"not measured: {result.id}: {result.not_measured}" for result in report.missed]
    lines += _unsound_lines(report.unsound)
    lines += [f"does not work: {done.id}: {done.title}: {done.failure}" for done in report.broken]
    if covered:
        lines += ["", "not covered"] + [f"{name:<4} {why}" for name, why in sorted(not_covered().items())]
    return "\n".join([*lines, "", _summary(report)])


def render_list(probes: Iterable[Probe]) -> str:
    """Every probe with its layers, one a line."""
    return "\n".join(f"{probe.id:<40} {stopped_by(probe):<24} {probe.title}" for probe in probes)


def stopped_by(probe: Probe) -> str:
    """The layers of a probe, or the kernel."""
    names = sorted(probe.layers)
    return (" and " if probe.together else ", ").join(names) or "kernel"


def _unsound_lines(results: Sequence[ProbeResult]) -> list[str]:
    lines = []
    for result in results:
        assert result.control is not None
        wrong = [f"{layer} alone does not stop it" for layer in result.control.passed]
        if result.control.impossible:
            wrong.append(f"through with every layer gone, against {result.kernel!r}")
        elif not result.control.succeeded:
            wrong.append(f"stopped although {', '.join(result.layers)} are gone")
        lines.append(f"wrong claim: {result.id}: {'; '.join(wrong)}")
    return lines


def _summary(report: Report) -> str:
    parts = [f"{len(report.probes)} probes, {len(report.through)} through"]
    if report.missed:
        parts.append(f"{len(report.missed)} not measured")
    impossible = [result for result in report.probes if result.kernel]
    if impossible:
        parts.append(f"{len(impossible)} of them the kernel itself stops")
    controlled = [result for result in report.probes if result.control]
    if controlled:
        parts.append(f"{len(controlled)} controls, {len(report.unsound)} wrong")
    if report.functional:
        parts.append(f"{len(report.functional)} functional probes, {len(report.broken)} fail")
    if report.left_out:
        parts.append(f"{report.left_out} probes make no sense here")
    return f"{'; '.join(parts)}; {report.seconds:.1f} s"
