"""The plugin's entry: one call of a container runtime, from the environment and standard input to standard output.

Owns: the order environment → version → configuration → wall, the answer of every error as one JSON object with a
code of `cellwall.cni.codes`, and exit status 1 with it. Nothing but a result or that object is ever written to
standard output, and nothing is touched before everything that the texts alone can tell has been checked.

A runtime starts a new process per call, so the time to import is the larger part of an ADD: what is not needed by
every call is imported inside the function that needs it. On a node whose daemon writes it is asked instead
(`cellwall.cni.thin`, and what that leaves to `cellwall.cni.remote`), and answers by the same functions
(`cellwall.cni.served`).
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import msgspec

from cellwall.cni import commands
from cellwall.cni.codes import Finding, code_of
from cellwall.cni.conf import (
    NEWEST,
    VERSIONS,
    AttachConf,
    CollectConf,
    NetworkConf,
    decode_document,
    parse_conf,
    require_version,
    spoken_version,
    written_version,
)
from cellwall.cni.invocation import Invocation, parse_invocation
from cellwall.cni.ledger import Ledger
from cellwall.cni.request import parse_request
from cellwall.errors import CellwallError
from cellwall.model.settings import Settings

if TYPE_CHECKING:
    from cellwall.cni.contract import WallPort

Write = Callable[[bytes], None]


class Answer(msgspec.Struct, frozen=True):
    """What a caller is told, on standard output and by the exit status; `delivered` is for once it has been told."""

    body: bytes = b""
    failed: bool = False
    delivered: Callable[[], None] = lambda: None


class Walls(Protocol):
    """How a call comes to a wall."""

    def to_open(self, conf: AttachConf) -> "AbstractContextManager[WallPort]":
        """For what opens something, or asks how things are."""

    def to_close(self, conf: NetworkConf) -> "AbstractContextManager[WallPort]":
        """For what only closes."""


class Call(msgspec.Struct, frozen=True):
    """One call whose texts are in order, and these texts."""

    invocation: Invocation
    conf: NetworkConf
    environ: Mapping[str, str]
    raw: bytes


_CONF: dict[str, type[NetworkConf]] = {
    "ADD": AttachConf,
    "DEL": NetworkConf,
    "CHECK": AttachConf,
    "STATUS": AttachConf,
    "GC": CollectConf,
}


def main() -> int:
    """Answer the call that this process was started for; the exit status."""
    try:
        raw = read_input()
    except OSError as error:
        write_output(_error_body(error, os.environ.get("CNI_COMMAND", ""), NEWEST))
        return 1
    return answer_call(os.environ, raw, write_output)


def answer_call(environ: Mapping[str, str], raw: bytes, write: Write) -> int:
    """Answer one call given as values; the exit status."""
    return _told(answered(environ, raw, _by_mode), write)


def answer_refused(environ: Mapping[str, str], raw: bytes, status: int, body: bytes) -> int:
    """Answer the call of this process where a daemon said something else than a plugin does."""
    from cellwall.cni.remote import read_refusal

    return _told(answered(environ, raw, lambda call: read_refusal(call, status, body)), write_output)


def answered(environ: Mapping[str, str], raw: bytes, carry_out: Callable[[Call], Answer]) -> Answer:
    """The answer to one call. `carry_out` gets those whose texts are in order."""
    command = environ.get("CNI_COMMAND", "")
    version = NEWEST
    try:
        if command == "VERSION":
            return Answer(_versions(raw))
        invocation = parse_invocation(environ)
        document = decode_document(raw)
        version = spoken_version(document)
        require_version(document, command)
        return carry_out(Call(invocation, parse_conf(document, _CONF[command]), environ, raw))
    except Exception as error:
        return Answer(_error_body(error, command, version), failed=True)


def carry_out(call: Call, walls: Walls) -> Answer:
    """Do what a call asks for; raises what keeps it from being done."""
    invocation, conf = call.invocation, call.conf
    if isinstance(conf, AttachConf):
        request = parse_request(conf, invocation.arguments) if invocation.command == "ADD" else None
        with walls.to_open(conf) as wall:
            if request is not None:
                ledger = _ledger(wall)
                body = commands.add(wall, ledger, invocation, conf, request, _to_bring_into_force(conf, wall))
                _record_choice(conf, wall)
                return Answer(body, delivered=lambda: ledger.deliver(invocation.key))
            if invocation.command == "CHECK":
                commands.check(wall, invocation, conf)
            else:
                commands.status(wall)
        return Answer()
    with walls.to_close(conf) as wall:
        if isinstance(conf, CollectConf):
            commands.collect(wall, _ledger(wall), conf)
        else:
            commands.delete(wall, _ledger(wall), invocation.key)
    return Answer()


class _OwnWalls:
    """A wall of the call's own."""

    def to_open(self, conf: AttachConf) -> "AbstractContextManager[WallPort]":
        # here and not above: what the texts alone refuse never loads the engine
        from cellwall.api import Wall
        from cellwall.cni.settings import settings_for

        settings_for(conf)  # a wrong one is refused, although the wall of a node that is up would not read it
        return Wall.open(root=conf.root or None, settings=lambda: settings_for(conf))

    def to_close(self, conf: NetworkConf) -> "AbstractContextManager[WallPort]":
        """Whatever became of the configuration meanwhile: what is detached is on record, and needs none of it."""
        from cellwall.api import Wall

        return Wall.open(root=conf.root or None, closing=True)


def _by_mode(call: Call) -> Answer:
    from cellwall.config import mode_of, paths_for

    paths = paths_for(call.conf.root or None)
    if mode_of(paths) == "inprocess":
        return carry_out(call, _OwnWalls())
    from cellwall.cni.remote import ask_daemon

    return ask_daemon(call, paths)


def _ledger(wall: "WallPort") -> Ledger:
    return Ledger(wall.paths.in_run("cni"))


def _to_bring_into_force(conf: AttachConf, wall: "WallPort") -> Settings | None:
    """Those in force with a conflist's subnets, where they have others."""
    if not (conf.subnets or conf.gateways):
        return None
    from cellwall.cni.settings import agrees, with_subnets

    return None if agrees(conf, wall.settings.network) else with_subnets(conf, wall.settings)


def _record_choice(conf: AttachConf, wall: "WallPort") -> None:
    if conf.subnets or conf.gateways:
        from cellwall.cni.settings import record_choice

        record_choice(conf, wall.paths)


def _versions(raw: bytes) -> bytes:
    asked = written_version(decode_document(raw)) if raw.strip() else ""
    return msgspec.json.encode({"cniVersion": asked or NEWEST, "supportedVersions": VERSIONS})


def _error_body(error: Exception, command: str, version: str) -> bytes:
    body: dict[str, object] = {"cniVersion": version, "code": code_of(error, command), "msg": _line(error)}
    details = _details(error)
    if details:
        body["details"] = details
    return msgspec.json.encode(body)


def _line(error: Exception) -> str:
    if isinstance(error, ExceptionGroup):
        return "; ".join(_line(inner) for inner in error.exceptions)
    return str(error) or type(error).__name__


def _details(error: Exception) -> str:
    if isinstance(error, Finding):
        return "\n".join(error.findings)
    if isinstance(error, CellwallError | OSError | ExceptionGroup):
        return ""
    # a defect of ours: whoever reads the runtime's log needs the place
    from traceback import format_exception

    return "".join(format_exception(error))


def _told(answer: Answer, write: Write) -> int:
    if answer.body:
        write(answer.body)
    answer.delivered()
    return int(answer.failed)


def read_input() -> bytes:
    """All of standard input."""
    chunks = []
    while chunk := os.read(0, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def write_output(body: bytes) -> None:
    """All of `body` to standard output, past Python's buffers: the launcher leaves without flushing any."""
    while body:
        body = body[os.write(1, body) :]
