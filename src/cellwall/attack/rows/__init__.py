"""The catalogue, row by row."""

from importlib import import_module

from cellwall.attack.probe import Probe

_MODULES = (
    *("layer2", "ethertypes", "neighbours", "tables"),
    *(
        "sources",
        "fragments",
        "headers",
        "errors",
        "flows",
        "exhaustion",
        "entries",
        "ended",
        "abuse",
        "floods",
        "unfinished",
    ),
    "floor",
    *(
        "node",
        "outside",
        "steered",
        "flushed",
        "windows",
        "reuse",
        "policies",
        "without6",
        "inputs",
        "control",
        "clients",
        "beyond",
        "audited",
    ),
)


def every_probe() -> tuple[Probe, ...]:
    """All probes, in the order of the catalogue."""
    probes: list[Probe] = [probe for name in _MODULES for probe in import_module(f"{__name__}.{name}").PROBES]
    return tuple(sorted(probes, key=lambda probe: probe.row))
