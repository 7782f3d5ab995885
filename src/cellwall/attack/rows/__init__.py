"""The catalogue, row by row."""

from cellwall.attack.probe import Probe


def every_probe() -> tuple[Probe, ...]:
    """All probes, in the order of the catalogue."""
    from cellwall.attack.rows import floor, layer2, neighbours, sources, tables

    probes = (*layer2.PROBES, *neighbours.PROBES, *tables.PROBES, *sources.PROBES, *floor.PROBES)
    return tuple(sorted(probes, key=lambda probe: probe.row))
