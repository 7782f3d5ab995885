"""The plugin's entry: one call of a container runtime, from the environment and standard input to standard output.

Owns: the order environment → version → configuration → wall, the answer of every error as one JSON object with a
code of `cellwall.cni.codes`, and exit status 1 with it. Nothing but a result or that object is ever written to
standard output, and nothing is touched before everything that the texts alone can tell has been checked.

A runtime starts a new process per call, so the time to import is the larger part of an ADD: what is not needed by
every call is imported inside the function that needs it.
"""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

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


def main() -> int:
    """Answer the call that this process was started for; the exit status."""
    try:
        raw = _read_input()
    except OSError as error:
        write_output(_error_body(error, os.environ.get("CNI_COMMAND", ""), NEWEST))
        return 1
    return answer_call(os.environ, raw, write_output)


def run() -> None:
    """`main`, then leave without tearing the interpreter down: everything is closed and written, and the rest costs
    milliseconds."""
    status = main()
    sys.stderr.flush()
    os._exit(status)


def answer_call(environ: Mapping[str, str], raw: bytes, write: Write) -> int:
    """Answer one call given as values; the exit status."""
    command = environ.get("CNI_COMMAND", "")
    version = NEWEST
    try:
        if command == "VERSION":
            write(_versions(raw))
            return 0
        call = parse_invocation(environ)
        document = decode_document(raw)
        version = spoken_version(document)
        require_version(document, command)
        _carry_out(call, document, write)
    except Exception as error:
        write(_error_body(error, command, version))
        return 1
    return 0


def _carry_out(call: Invocation, document: Mapping[str, Any], write: Write) -> None:
    if call.command == "ADD":
        conf = parse_conf(document, AttachConf)
        request = parse_request(conf, call.arguments)
        with _open_wall(conf) as wall:
            ledger = _ledger(wall)
            chosen = _to_bring_into_force(conf, wall)
            result = commands.add(wall, ledger, call, conf, request, chosen, bring=lambda: _bring(conf, chosen))
            _record_choice(conf, wall)
            write(result)
            ledger.deliver(call.key)
    elif call.command == "DEL":
        with _open_wall_to_close(parse_conf(document, NetworkConf)) as wall:
            commands.delete(wall, _ledger(wall), call.key)
    elif call.command == "CHECK":
        conf = parse_conf(document, AttachConf)
        with _open_wall(conf) as wall:
            commands.check(wall, call, conf)
    elif call.command == "STATUS":
        with _open_wall(parse_conf(document, AttachConf)) as wall:
            commands.status(wall)
    else:
        listed = parse_conf(document, CollectConf)
        with _open_wall_to_close(listed) as wall:
            commands.collect(wall, _ledger(wall), listed)


def _ledger(wall: "WallPort") -> Ledger:
    return Ledger(wall.paths.in_run("cni"))


def _open_wall(conf: AttachConf) -> "AbstractContextManager[WallPort]":
    # here and not above: what the texts alone refuse never loads the engine
    from cellwall.api import Wall
    from cellwall.cni.settings import settings_for

    settings_for(conf)  # a wrong one is refused, although the wall of a node that is up would not read it
    return Wall.open(root=conf.root or None, settings=lambda: settings_for(conf))


def _open_wall_to_close(conf: NetworkConf) -> "AbstractContextManager[WallPort]":
    """Whatever became of the node's configuration meanwhile: what is detached is on record, and needs none of it."""
    from cellwall.api import Wall

    return Wall.open(root=conf.root or None, closing=True)


def _to_bring_into_force(conf: AttachConf, wall: "WallPort") -> Settings | None:
    """Those in force with a conflist's subnets, where they have others."""
    if not (conf.subnets or conf.gateways):
        return None
    from cellwall.cni.settings import agrees, with_subnets

    return None if agrees(conf, wall.settings.network) else with_subnets(conf, wall.settings)


def _bring(conf: AttachConf, settings: Settings | None) -> None:
    from cellwall.api import Wall

    with Wall.open(root=conf.root or None, settings=settings) as wall:
        wall.up()


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


def _read_input() -> bytes:
    chunks = []
    while chunk := os.read(0, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def write_output(body: bytes) -> None:
    """All of `body` to standard output, past Python's buffers: `run` leaves without flushing any."""
    while body:
        body = body[os.write(1, body) :]
