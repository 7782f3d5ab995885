"""The network configuration that a runtime writes to standard input, parsed once.

Owns: the versions of the specification that are spoken, the keys of a conflist entry and their types. Keys of ours:

    root        where this node keeps configuration, state and run files (as `cellwall --root`)
    subnets     the network's subnets, at most one of each family; gateways: likewise
    tenant      the tenant of every container of this network
    tenantFrom  "K8S_POD_NAMESPACE": the tenant is that argument of CNI_ARGS

Refuses: an unknown key with its value, wherever one might believe it had an effect. Only `args` and `cni.dev/…` may
carry what we do not know (the specification reserves both). DEL and GC read the few keys they need and ignore the rest:
a conflist that an ADD refuses must never keep a container from being taken down.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from cellwall.cni.codes import DECODING_FAILURE, INCOMPATIBLE_VERSION, UNSUPPORTED_FIELD, Refusal
from cellwall.errors import InvalidSpec
from cellwall.model.identifiers import parse_container_id

VERSIONS = ("0.4.0", "1.0.0", "1.1.0")
NEWEST = VERSIONS[-1]

_SINCE: dict[str, str] = {"CHECK": "0.4.0", "STATUS": "1.1.0", "GC": "1.1.0"}
_CAPABILITIES = frozenset(("portMappings", "ips", "mac"))
_INPUT_LIMIT = 1 << 20


class PortMapping(msgspec.Struct, frozen=True, rename={"host_port": "hostPort", "host_ip": "hostIP",
                                                       "container_port": "containerPort"}):  # fmt: skip
    """One entry of the portMappings capability."""

    host_port: int
    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""


class RuntimeConfig(msgspec.Struct, frozen=True, rename={"port_mappings": "portMappings"}):
    """What the runtime adds for one container, by capability."""

    port_mappings: tuple[PortMapping, ...] = ()
    ips: tuple[str, ...] = ()
    mac: str = ""


class Names(msgspec.Struct, frozen=True, omit_defaults=True):
    """The specification's `dns` type, in a conflist and in a result."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Attachment(msgspec.Struct, frozen=True, rename={"container_id": "containerID"}):
    """One entry of GC's list."""

    container_id: str
    ifname: str


class NetworkConf(msgspec.Struct, frozen=True, rename={"cni_version": "cniVersion"}):
    """What every verb needs, and all that DEL reads."""

    cni_version: str
    name: str
    root: str = ""


class AttachConf(NetworkConf, frozen=True, rename={"tenant_from": "tenantFrom", "runtime_config": "runtimeConfig",
                                                  "previous": "prevResult"}):  # fmt: skip
    """What ADD, CHECK and STATUS read."""

    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    tenant: str = ""
    tenant_from: str = ""
    dns: Names = Names()
    runtime_config: RuntimeConfig = RuntimeConfig()
    previous: dict[str, Any] | None = None


class CollectConf(NetworkConf, frozen=True, rename={"valid": "cni.dev/valid-attachments"}):
    """What GC reads. `valid` absent is not an empty list: that would remove everything."""

    valid: tuple[Attachment, ...] | None = None


_Conf = TypeVar("_Conf", bound=NetworkConf)


class Json:
    """A refused value, shown as the caller wrote it and not as Python would."""

    def __init__(self, value: object) -> None:
        self._text = msgspec.json.encode(value).decode()

    def __str__(self) -> str:
        return self._text


def decode_document(raw: bytes) -> dict[str, Any]:
    """The JSON object on standard input."""
    if len(raw) > _INPUT_LIMIT:
        raise Refusal(DECODING_FAILURE, "network configuration", f"{len(raw)} bytes", "is longer than 1 MiB")
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        shown = raw[:40].decode(errors="replace")
        raise Refusal(DECODING_FAILURE, "network configuration", shown, f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refusal(DECODING_FAILURE, "network configuration", Json(document), "must be a JSON object")
    return _without_nulls(document)


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    """A runtime written in Go writes null for an empty list or map: it means the same as no key at all. What other
    plugins reported is handed on as it came."""
    return {
        key: _without_nulls(inner) if isinstance(inner, dict) and key != "prevResult" else inner
        for key, inner in value.items()
        if inner is not None
    }


def spoken_version(document: Mapping[str, Any]) -> str:
    """The version to answer in: the configuration's where we speak it, else our newest."""
    version = document.get("cniVersion")
    return version if version in VERSIONS else NEWEST


def written_version(document: Mapping[str, Any]) -> str:
    """The version as it is written, empty where there is none; refused where it is no text."""
    version = document.get("cniVersion", "")
    if not isinstance(version, str):
        raise Refusal(DECODING_FAILURE, "cniVersion", Json(version), "must be a string")
    return version


def require_version(document: Mapping[str, Any], command: str) -> None:
    """Refuse a version that we do not speak, or that does not have the verb."""
    version = written_version(document)
    if version not in VERSIONS:
        supported = ", ".join(VERSIONS)
        raise Refusal(INCOMPATIBLE_VERSION, "cniVersion", version, f"is not supported; supported: {supported}")
    first = _SINCE.get(command, VERSIONS[0])
    if VERSIONS.index(version) < VERSIONS.index(first):
        raise Refusal(INCOMPATIBLE_VERSION, "cniVersion", version, f"has no {command}; it came with {first}")


def parse_conf(document: Mapping[str, Any], kind: type[_Conf]) -> _Conf:
    """The typed configuration; raises Refusal (unknown key) or InvalidSpec (wrong type, bad name)."""
    if kind is AttachConf:
        _refuse_unknown_keys(document)
    conf = convert(document, kind, "")
    parse_container_id(conf.name, "name")
    if conf.root and not conf.root.startswith("/"):
        raise InvalidSpec("root", conf.root, "must be an absolute path")
    return conf


_T = TypeVar("_T")


def convert(value: object, kind: type[_T], field: str) -> _T:
    """`msgspec.convert`, its refusal told with field and value."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        path = (field + place.rstrip("`")).lstrip(".")
        if "missing required field" in reason:
            raise InvalidSpec(path or "network configuration", "", reason) from error
        raise InvalidSpec(path, Json(_value_at(value, place.rstrip("`"))), reason) from error


def _value_at(value: Any, path: str) -> object:
    """The value that a path of msgspec's such as `.dns.nameservers[1]` leads to; a `[...]` in it means some key."""
    for part in path.replace("[", ".[").split("."):
        if part.startswith("[") and part != "[...]" and isinstance(value, list):
            value = value[int(part[1:-1])]
        elif part and isinstance(value, dict):
            value = value.get(part)
    return value


# read by the runtime, or told to every plugin of a list, or fixed here
_COMMON_KEYS = frozenset(("type", "args", "capabilities", "ipMasq", "ipam", "disableCheck", "disableGC", "cniVersions"))


def _refuse_unknown_keys(document: Mapping[str, Any]) -> None:
    known = _keys(AttachConf) | _COMMON_KEYS
    _refuse("", {key: value for key, value in document.items() if not key.startswith("cni.dev/")}, known)
    _refuse("dns", document.get("dns"), _keys(Names))
    _refuse("runtimeConfig", document.get("runtimeConfig"), _keys(RuntimeConfig))
    runtime = document.get("runtimeConfig")
    mappings = runtime.get("portMappings") if isinstance(runtime, dict) else None
    for number, mapping in enumerate(mappings if isinstance(mappings, list) else ()):
        _refuse(f"runtimeConfig.portMappings[{number}]", mapping, _keys(PortMapping))
    capabilities = document.get("capabilities")
    if isinstance(capabilities, dict):
        _refuse("capabilities", {key: value for key, value in capabilities.items() if value}, _CAPABILITIES)
    if document.get("ipam"):
        reason = "addresses are always this plugin's own to give; no IPAM plugin is started"
        raise Refusal(UNSUPPORTED_FIELD, "ipam", Json(document["ipam"]), reason)
    if document.get("ipMasq", True) is not True:
        reason = "a sandbox's address never leaves the node untranslated"
        raise Refusal(UNSUPPORTED_FIELD, "ipMasq", Json(document["ipMasq"]), reason)


def _keys(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(kind.__struct_encode_fields__)


def _refuse(path: str, present: object, known: frozenset[str]) -> None:
    if not isinstance(present, dict):
        return
    for key, value in present.items():
        if key not in known:
            where = f"{path}.{key}" if path else key
            raise Refusal(UNSUPPORTED_FIELD, where, Json(value), "is not a key of this plugin")
