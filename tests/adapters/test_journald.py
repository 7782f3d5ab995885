"""What systemd's journal is told: entries as its protocol has them, and nothing waits for it."""

import socket
from pathlib import Path

import pytest

from cellwall.adapters.events.journald import Journal, entry_text
from cellwall.audit.events import Attempt
from cellwall.audit.shown import journal_entry

DENIED = Attempt("2026-01-31T12:00:00.000000Z", "deny", "out", "FWD", "the floor", tenant="acme", source_port=7)


@pytest.fixture
def listening(tmp_path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(tmp_path / "journal"))
    made.settimeout(10)
    return made


def test_an_event_is_an_entry_with_its_fields_by_name(listening: socket.socket) -> None:
    journal = Journal(listening.getsockname())
    assert journal.tell([journal_entry(DENIED)]) == 0
    lines = listening.recv(65536).decode().splitlines()
    assert "MESSAGE=2026-01-31 12:00:00.000000Z acme - out denied: frame (FWD: the floor)" in lines
    assert {"CELLWALL_TENANT=acme", "CELLWALL_SOURCE_PORT=7", "SYSLOG_IDENTIFIER=cellwall", "PRIORITY=5"} <= set(lines)
    assert not any(line.startswith("CELLWALL_CONTAINER") for line in lines)
    journal.close()
    listening.close()


def test_a_value_of_several_lines_passes_for_no_other_field() -> None:
    assert entry_text({"A": "x\nB=y"}) == b"A\n" + b"\x05" + bytes(7) + b"x\nB=y\n"


def test_where_no_journal_listens_nothing_is_told_and_nothing_waits(tmp_path: Path, listening: socket.socket) -> None:
    nowhere = Journal(str(tmp_path / "none"))
    assert nowhere.tell([{"MESSAGE": "x"}] * 3) == 3
    nowhere.close()
    full = Journal(listening.getsockname())
    assert full.tell([{"MESSAGE": "x"}] * 10_000) > 0
    full.close()
    listening.close()
