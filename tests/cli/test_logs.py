"""Logs are text for people, JSON on request, and carry priorities where standard error is the journal."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cellwall.cli.logs import configure_logs, is_journal

LOG = logging.getLogger("cellwall.somewhere")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    logger = logging.getLogger("cellwall")
    before = (logger.handlers[:], logger.propagate, logger.level)
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


def test_text_names_the_program_and_the_level(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        configure_logs("text", 0, stream=stream, environ={})
        LOG.error("bridge: gone")
        LOG.warning("no br_netfilter")
        LOG.info("unseen")
        stream.seek(0)
        assert stream.read() == "cellwall: bridge: gone\ncellwall: warning: no br_netfilter\n"


def test_json_is_one_object_a_line_also_for_text_with_newlines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        configure_logs("json", 1, stream=stream, environ={})
        LOG.warning("one\ntwo")
        LOG.info("three")
        LOG.debug("unseen")
        stream.seek(0)
        lines = [msgspec.json.decode(line) for line in stream]
    assert [(line["level"], line["message"]) for line in lines] == [("warning", "one\ntwo"), ("info", "three")]
    assert set(lines[0]) == {"time", "level", "logger", "message"}


def test_journal_lines_carry_their_priority_each(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        status = os.fstat(stream.fileno())
        configure_logs("text", 2, stream=stream, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        LOG.error("refused:\nline 2")
        LOG.warning("w")
        LOG.info("i")
        LOG.debug("d")
        stream.seek(0)
        assert stream.read().splitlines() == [
            "<3>refused:", "<3>line 2", "<4>w", "<6>i", "<7>d",
        ]  # fmt: skip


def test_inherited_variable_of_another_stream_is_not_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        assert not is_journal(stream, {"JOURNAL_STREAM": "8:12345"})
        assert not is_journal(stream, {})
