"""The environment of a call: which verb, for which container, with which extra arguments.

Owns: the variables that each verb needs (CNI 1.1.0, section 2), their grammars, and the key=value pairs of CNI_ARGS.
Refuses: everything outside CNI's grammar, and an argument that nobody here knows unless the caller said
IgnoreUnknown. CNI_PATH is not asked for: no other plugin is ever started from here, addresses included.
"""

from collections.abc import Mapping

import msgspec

from cellwall.cni.codes import INVALID_ENVIRONMENT, Refusal
from cellwall.model.endpoint import EndpointKey
from cellwall.model.identifiers import parse_container_id, parse_link_name

COMMANDS = ("ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION")

_NEEDS: dict[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    # the namespace may be gone before DEL comes; runtimes then leave CNI_NETNS empty or out
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}

_ARGUMENTS = frozenset(("IP", "MAC", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"))
_MOST = 2048
"""Characters of CNI_ARGS. Runtimes use a few hundred, and a daemon reads no more than 8,190 octets of a call's words,
where one of these may be three."""
_TRUE = ("1", "true")
_FALSE = ("0", "false", "")


class Invocation(msgspec.Struct, frozen=True):
    """One call. Fields that a verb does not need are empty."""

    command: str
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    arguments: Mapping[str, str] = {}

    @property
    def key(self) -> EndpointKey:
        """The attachment that the call is about."""
        return EndpointKey(self.container_id, self.ifname)


def parse_invocation(environ: Mapping[str, str]) -> Invocation:
    """Read one call from the environment; raises InvalidSpec naming the variable."""
    command = environ.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise Refusal(INVALID_ENVIRONMENT, "CNI_COMMAND", command, f"must be one of {', '.join(COMMANDS)}")
    needed = _NEEDS.get(command, ())
    for variable in needed:
        if not environ.get(variable):
            raise Refusal(INVALID_ENVIRONMENT, variable, "", f"is needed for {command}")
    if not needed:
        return Invocation(command)
    return Invocation(
        command,
        container_id=parse_container_id(environ["CNI_CONTAINERID"], "CNI_CONTAINERID"),
        netns=environ.get("CNI_NETNS", ""),
        ifname=parse_link_name(environ["CNI_IFNAME"], "CNI_IFNAME"),
        # what an ADD would refuse must not keep a DEL from cleaning up
        arguments=parse_arguments(environ.get("CNI_ARGS", "")) if command == "ADD" else {},
    )


def parse_arguments(text: str) -> Mapping[str, str]:
    """Parse CNI_ARGS, `KEY=VALUE;KEY=VALUE`."""
    if len(text) > _MOST:
        raise Refusal(INVALID_ENVIRONMENT, "CNI_ARGS", len(text), f"characters: at most {_MOST}")
    pairs: dict[str, str] = {}
    for part in text.split(";"):
        if not part:
            continue
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise Refusal(INVALID_ENVIRONMENT, "CNI_ARGS", part, "must be KEY=VALUE pairs joined by ';'")
        if pairs.setdefault(key, value) != value:
            raise Refusal(INVALID_ENVIRONMENT, f"CNI_ARGS.{key}", value, f"differs from the {pairs[key]} before it")
    ignore = _switch(pairs.pop("IgnoreUnknown", ""))
    known = {key: value for key, value in pairs.items() if key in _ARGUMENTS}
    if len(known) < len(pairs) and not ignore:
        key = next(key for key in pairs if key not in _ARGUMENTS)
        reason = "is not an argument of this plugin, and IgnoreUnknown=1 is not set"
        raise Refusal(INVALID_ENVIRONMENT, f"CNI_ARGS.{key}", pairs[key], reason)
    return known


def _switch(text: str) -> bool:
    lowered = text.lower()
    if lowered not in _TRUE + _FALSE:
        raise Refusal(INVALID_ENVIRONMENT, "CNI_ARGS.IgnoreUnknown", text, "must be 1, true, 0 or false")
    return lowered in _TRUE
