"""The catalogue, row by row."""

from cellwall.attack.probe import Probe


def every_probe() -> tuple[Probe, ...]:
    """All probes, in the order of the catalogue."""
    from cellwall.attack.rows import (
        beyond,
        clients,
        errors,
        exhaustion,
        floor,
        flows,
        fragments,
        headers,
        inputs,
        layer2,
        neighbours,
        node,
        outside,
        reuse,
        sources,
        steered,
        tables,
        windows,
        without6,
    )

    modules = (
        layer2,
        neighbours,
        tables,
        sources,
        fragments,
        headers,
        errors,
        flows,
        exhaustion,
        floor,
        node,
        outside,
        steered,
        windows,
        without6,
        reuse,
        inputs,
        clients,
        beyond,
    )
    probes = [probe for module in modules for probe in module.PROBES]
    return tuple(sorted(probes, key=lambda probe: probe.row))
