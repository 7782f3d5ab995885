"""One command line: parse, run one command, print, give the exit status.

Every error ends as one line on standard error, `cellwall: FIELD: VALUE: REASON` where a value was wrong, and with
--json also as `{"error": {"kind", "message", "status", "field"?, "value"?, "reason"?}}` on standard output, so that
a program finds exactly one document there whatever happened.
"""

import logging
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from cellwall.cli import exits
from cellwall.cli.invocation import Outcome
from cellwall.cli.logs import LogFormat, configure_logs
from cellwall.cli.parser import parse_arguments
from cellwall.errors import CellwallError, InvalidSpec, shown

_log = logging.getLogger("cellwall")


def run_command(argv: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    arguments = list(argv)
    ours = arguments[: arguments.index("--") if "--" in arguments else None]
    json = "--json" in ours
    try:
        configure_logs(_log_format(ours), 0)
        invocation = parse_arguments(arguments)
        given = invocation.arguments
        json = given.json
        configure_logs(given.log_format, given.verbose + getattr(given, "verbose_late", 0))
        return _print(given.act(invocation), json=json)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, a pager) has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        return exits.FAILED
    except Exception as error:
        return _report(error, json=json)


def _log_format(arguments: Sequence[str]) -> LogFormat:
    """Of the log in which it is said that a command line is not understood."""
    wanted = "--log-format=json" in arguments or ("--log-format", "json") in pairwise(arguments)
    return "json" if wanted else "text"


def _print(outcome: Outcome, *, json: bool) -> int:
    for warning in outcome.warnings:
        _log.warning("%s", warning)
    if json and outcome.document is not None:
        print(msgspec.json.format(msgspec.json.encode(outcome.document), indent=2).decode(), flush=True)
    elif outcome.text and not json:
        print(outcome.text, flush=True)
    return outcome.status


def _report(error: Exception, *, json: bool) -> int:
    status, kind = exits.classify(error)
    for line in _messages(error, kind):
        _log.error("%s", line)
    _log.debug("where it happened", exc_info=error)
    if json:
        print(msgspec.json.encode({"error": _document(error, status, kind)}).decode(), flush=True)
    return status


def _messages(error: BaseException, kind: str) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [line for member in error.exceptions for line in _messages(member, exits.classify(member)[1])]
    if kind == "internal":
        return [f"internal error, please report it: {type(error).__name__}: {_one_line(error)} (-vv shows more)"]
    return [_one_line(error)]


def _one_line(error: BaseException) -> str:
    # A refused ruleset is many lines: a terminal shows them, the promise of one line is for everything else.
    if isinstance(error, OSError) and not isinstance(error, CellwallError) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror
    text = str(error)
    return text if isinstance(error, CellwallError) and not isinstance(error, InvalidSpec) else " ".join(text.split())


def _document(error: BaseException, status: int, kind: str) -> dict[str, object]:
    message = "; ".join(_messages(error, kind))
    document: dict[str, object] = {"kind": kind, "status": status, "message": _encodable(message)}
    if isinstance(error, InvalidSpec):
        told = {"field": error.field, "value": shown(error.value), "reason": error.reason}
        document |= {name: _encodable(text) for name, text in told.items()}
    return document


def _encodable(text: str) -> str:
    """As it is, but for halves of surrogate pairs, which JSON can escape and UTF-8 cannot carry."""
    return text.encode(errors="backslashreplace").decode()
