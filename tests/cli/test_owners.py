"""An attachment belongs to its process exactly as long as the process lives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cellwall.adapters.sandbox import owners
from cellwall.errors import Conflict

_HOLD = "import sys, time\nfrom pathlib import Path\nfrom cellwall.adapters.sandbox import owners\n"


def _holder(run: Path, name: str) -> "subprocess.Popen[bytes]":
    code = f"{_HOLD}kept = owners.claim(Path({str(run)!r}), {name!r})\nprint('held', flush=True)\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def test_living_owner_is_not_abandoned_and_a_killed_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_PATIENCE", 0.05)
    with _holder(tmp_path, "web") as child:
        try:
            assert owners.abandoned(tmp_path) == ()
            with pytest.raises(Conflict, match="web"):
                owners.claim(tmp_path, "web")
        finally:
            os.kill(child.pid, signal.SIGKILL)
    (found,) = owners.abandoned(tmp_path)
    assert found.container_id == "web"
    found.beside(".resolv.conf").write_text("x")
    found.forget()
    assert owners.abandoned(tmp_path) == ()
    assert list((tmp_path / "owners").iterdir()) == []


def test_next_claim_learns_that_it_inherits(tmp_path: Path) -> None:
    first = owners.claim(tmp_path, "web")
    assert not first.inherited
    first.release()
    second = owners.claim(tmp_path, "web")
    assert second.inherited
    second.forget()
    third = owners.claim(tmp_path, "web")
    assert not third.inherited
    third.forget()


def test_longest_ids_have_files_of_their_own(tmp_path: Path) -> None:
    kept = [owners.claim(tmp_path, "a" * 252 + last) for last in "bc"]
    for owner in kept:
        owner.release()
    found = owners.abandoned(tmp_path)
    assert {owner.container_id for owner in found} == {"a" * 252 + "b", "a" * 252 + "c"}
    for owner in found:
        owner.forget()


def test_claim_that_died_before_it_was_named_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "owners").mkdir()
    (tmp_path / "owners/0.lock").touch()
    assert owners.abandoned(tmp_path) == ()
    assert list((tmp_path / "owners").iterdir()) == []


def test_no_directory_means_nothing_abandoned(tmp_path: Path) -> None:
    assert owners.abandoned(tmp_path / "none") == ()
