"""msgspec at its cheapest, for a process that is one call of a container runtime and nothing else.

Importing msgspec imports what it needs for types that no plugin has to do with: 12 ms of re, enum, uuid, decimal and,
where it is installed, typing_extensions, and its own modules for schemas, YAML and TOML. The thin plugin imports this
module first, which imports msgspec with stand-ins in their place and takes them away again.

In such a process msgspec takes no enumeration, UUID or decimal for what it is. Never imported by anything else.
"""

import sys
import typing  # noqa: F401  # before Python 3.13 it has a use for re itself
from collections.abc import Mapping
from types import ModuleType


def import_msgspec(stand_ins: Mapping[str, ModuleType | None]) -> None:
    """Import msgspec with these modules in place of those that are not loaded yet; None: as if it were not installed.
    A msgspec that looks for something else in them is imported as usual by whoever needs it next."""
    spared = [name for name in stand_ins if name not in sys.modules]
    if "msgspec" in sys.modules:
        return
    for name in spared:
        sys.modules[name] = stand_ins[name]  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401
    except Exception:
        for name in [name for name in sys.modules if name.partition(".")[0] == "msgspec"]:
            del sys.modules[name]
    finally:
        for name in spared:
            sys.modules.pop(name, None)


def _module(name: str, **content: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


class _Nothing:
    """A type that no value has."""


class _NothingEnumerated(type):
    """The type of a type that no value has."""


STAND_INS = {
    "decimal": _module("decimal", Decimal=_Nothing),
    "enum": _module("enum", Enum=_NothingEnumerated("Enum", (), {}), EnumMeta=_NothingEnumerated),
    "re": _module("re", compile=None),
    "typing_extensions": None,
    "uuid": _module("uuid", UUID=_Nothing, SafeUUID=_module("SafeUUID", unknown=None)),
    "msgspec._json_schema": _module("msgspec._json_schema", schema=None, schema_components=None),
    **{name: _module(name) for name in ("msgspec.inspect", "msgspec.toml", "msgspec.yaml")},
}
"""What the core of msgspec looks up in each of them when it is imported."""

import_msgspec(STAND_INS)
