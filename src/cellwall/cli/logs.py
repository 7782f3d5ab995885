"""Logs on standard error, or in the journal where standard error is the journal.

systemd names the device and inode of the stream it connected in JOURNAL_STREAM (systemd.exec(5)). Where they are
those of standard error a line starts with its priority in angle brackets (sd-daemon(3)), and the text leaves out what
the journal adds itself. A variable inherited by a shell with other redirections does not match and changes nothing.
"""

import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Literal, TextIO

import msgspec

LogFormat = Literal["text", "json"]
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


class _Formatter(logging.Formatter):
    def __init__(self, form: LogFormat, *, journal: bool) -> None:
        super().__init__()
        self._form = form
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            message += "\n" + self.formatException(record.exc_info)
        return "\n".join(self._line(record, line) for line in self._lines(message))

    def _lines(self, message: str) -> list[str]:
        return [message] if self._form == "json" else message.splitlines() or [""]

    def _line(self, record: logging.LogRecord, text: str) -> str:
        prefix = f"<{_priority(record.levelno)}>" if self._journal else ""
        level = record.levelname.lower()
        if self._form == "json":
            line = {"time": _timestamp(record.created), "level": level, "logger": record.name, "message": text}
            return prefix + msgspec.json.encode(line).decode()
        mark = "" if level == "error" else f"{level}: "
        return prefix + (text if self._journal else f"cellwall: {mark}{text}")


def configure_logs(
    form: LogFormat, verbosity: int, *, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> None:
    """Send cellwall's log to standard error: warnings, with verbosity 1 also notes, with 2 everything."""
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(_Formatter(form, journal=is_journal(target, environ)))
    logger = logging.getLogger("cellwall")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """The stream is the one that systemd connected to the journal."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or not a file at all
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _priority(level: int) -> int:
    return next(priority for least, priority in _PRIORITIES if level >= least)


def _timestamp(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
