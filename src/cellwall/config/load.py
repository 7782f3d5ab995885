"""Reading settings: a conflist's choice, the file, the environment, the flags, each over the one before.

tomllib is imported only where a file exists and difflib only for a wrong key: the CNI plugin is a new process
for every container, and each of the two costs it milliseconds.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Literal, NoReturn

import msgspec

from cellwall.config.choice import read_choice
from cellwall.config.keys import BY_NAME, SECTIONS, SERVING_KEYS
from cellwall.config.mode import Mode, Serving, recorded_mode
from cellwall.config.paths import Paths
from cellwall.errors import InvalidSpec, NoPrivilege
from cellwall.model.network import Network
from cellwall.model.resolvers import askable
from cellwall.model.settings import Audit, Settings

Origin = Literal["default", "conflist", "file", "environment", "flag"]


class Loaded(msgspec.Struct, frozen=True):
    """The settings, who writes, and where each key's value came from."""

    settings: Settings
    origins: Mapping[str, Origin]
    serving: Serving = Serving()


def load_settings(
    paths: Paths,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, str] | None = None,
    chosen: Mapping[str, str] | None = None,
) -> Loaded:
    """The validated settings of a node. A missing file is an empty one; `chosen` is what a conflist says, None: what is
    on record of one.

    Raises InvalidSpec for an unknown key, a wrong type or a value that cannot work, and NoPrivilege for a
    file that may not be read.
    """
    values: dict[str, object] = {}
    origins: dict[str, Origin] = dict.fromkeys(BY_NAME, "default")
    sources: tuple[tuple[Origin, Iterator[tuple[str, object]]], ...] = (
        ("conflist", _text_values(read_choice(paths) if chosen is None else chosen)),
        ("file", _file_values(paths.config_text)),
        ("environment", _environment_values(environ)),
        ("flag", _text_values(overrides or {})),
    )
    for origin, pairs in sources:
        with _Located(origin, paths.config_text, origins):
            for name, value in pairs:
                values[name] = BY_NAME[name].typed(value)
                origins[name] = origin
    serving = {key.member: values.pop(key.name) for key in SERVING_KEYS if key.name in values}
    settings = assemble(values)
    with _Located(None, paths.config_text, origins):
        settings.validate()
        _refuse_unreachable_resolvers(settings)
    return Loaded(settings, origins, msgspec.structs.replace(Serving(), **serving))


def mode_of(
    paths: Paths, *, environ: Mapping[str, str] = os.environ, overrides: Mapping[str, str] | None = None
) -> Mode:
    """Who writes on a node by now: whoever is on record, and where nobody is, whoever is configured. Where that is
    wrong nobody is: who opens something is told of it, and who closes needs no configuration."""
    recorded = recorded_mode(paths)
    if recorded is not None:
        return recorded
    try:
        # A configuration that names no daemon is not parsed for it: an ADD reads it again anyhow, a DEL never.
        if not (overrides or _names_a_daemon(paths, environ)):
            return "inprocess"
        return load_settings(paths, environ=environ, overrides=overrides).serving.mode
    except (InvalidSpec, NoPrivilege):
        return "inprocess"


def judge_flags(overrides: Mapping[str, str]) -> None:
    """Raise InvalidSpec for a flag that is wrong whatever the configuration says."""
    with _Located("flag", "", {}):
        for name, value in _text_values(overrides):
            BY_NAME[name].typed(value)


class _Located:
    """Adds to a refusal inside the block where the refused value stands."""

    def __init__(self, origin: Origin | None, file: str, origins: Mapping[str, Origin]) -> None:
        self._origin = origin
        self._file = file
        self._origins = origins

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, InvalidSpec) or error.field == "configuration":
            return
        origin = self._origin or self._origins.get(error.field, "default")
        key = BY_NAME.get(error.field)
        place = {
            "conflist": " (in the CNI network configuration)",
            "file": f" (in {self._file})",
            "environment": f" (in {key.variable})" if key else "",
            "flag": " (in --set)",
            "default": "",
        }[origin]
        raise InvalidSpec(error.field, error.value, error.reason + place) from error


def _names_a_daemon(paths: Paths, environ: Mapping[str, str]) -> bool:
    """Whether the word occurs, or might in the disguise of an escape."""
    raw = _file_content(paths.config_text) or b""
    return b"daemon" in raw or b"\\" in raw or "daemon" in environ.get("CELLWALL_NODE_MODE", "")


def _file_content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise NoPrivilege(f"configuration {path!r}: permission denied") from error
    except OSError as error:
        raise InvalidSpec("configuration", path, f"cannot be read: {error.strerror}") from error


def _file_values(path: str) -> Iterator[tuple[str, object]]:
    raw = _file_content(path)
    if raw is None:
        return
    import tomllib

    try:
        document = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSpec("configuration", path, f"is not TOML: {error}") from error
    for section, table in document.items():
        if section not in SECTIONS:
            _refuse_unknown(section, table, SECTIONS)
        if not isinstance(table, dict):
            raise InvalidSpec(section, table, "must be a section")
        for attribute, value in table.items():
            name = f"{section}.{attribute}"
            if name not in BY_NAME:
                _refuse_unknown(name, value, BY_NAME)
            yield name, value


def _environment_values(environ: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    """A misspelt variable is refused as a misspelt key is; other names are not ours to judge."""
    known = {key.variable: key for key in BY_NAME.values()}
    ours = tuple(f"CELLWALL_{section.upper()}_" for section in SECTIONS)
    for variable, text in environ.items():
        if variable in known:
            yield known[variable].name, known[variable].read(text)
        elif variable.startswith(ours):
            _refuse_unknown(variable, text, known)


def _text_values(texts: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    for name, text in texts.items():
        if name not in BY_NAME:
            _refuse_unknown(name, text, BY_NAME)
        yield name, BY_NAME[name].read(text)


def _refuse_unknown(name: str, value: object, known: Mapping[str, object] | tuple[str, ...]) -> NoReturn:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    raise InvalidSpec(name, value, "is not a setting" + (f"; did you mean {near[0]}?" if near else ""))


def assemble(values: Mapping[str, object]) -> Settings:
    """Settings of the given values; a gateway that nobody chose follows its subnet."""
    keys = {BY_NAME[name]: value for name, value in values.items()}
    audit = {key.attribute: value for key, value in keys.items() if key.section == "audit"}
    fields: dict[str, object] = {key.attribute: value for key, value in keys.items() if key.section != "audit"}
    network = {name: value for name, value in fields.items() if name in Network.__struct_fields__}
    rest = {name: value for name, value in fields.items() if name not in network}
    draft = msgspec.structs.replace(Network(), **network)
    if "subnet4" in network and "gateway4" not in network:
        draft = msgspec.structs.replace(draft, gateway4=draft.subnet4.network_address + 1)
    if "subnet6" in network and "gateway6" not in network:
        draft = msgspec.structs.replace(draft, gateway6=draft.subnet6.network_address + 1)
    return msgspec.structs.replace(Settings(), network=draft, audit=msgspec.structs.replace(Audit(), **audit), **rest)


def _refuse_unreachable_resolvers(settings: Settings) -> None:
    """A resolver that the floor swallows would leave every sandbox without names, and silently so."""
    for address in settings.dns:
        if not askable(settings, address):
            reason = "is denied to sandboxes by the floor; open its port 53 over udp,tcp in network.exceptions"
            raise InvalidSpec("network.dns", address, reason)
