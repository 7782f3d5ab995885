"""Who writes on a node: a record that comes before the configuration."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cellwall.cni.thin import daemon_writes
from cellwall.config import Paths, drop_mode_record, mode_of, paths_for, record_daemon, recorded_mode
from cellwall.errors import InvalidSpec

NOBODY = 65534


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = paths_for(tmp_path)
    paths.run.mkdir(parents=True, mode=0o700)
    return paths


def test_a_daemon_is_on_record_until_the_record_is_dropped(paths: Paths) -> None:
    assert recorded_mode(paths) is None
    record_daemon(paths)
    record_daemon(paths)
    assert recorded_mode(paths) == "daemon"
    assert os.listdir(paths.run) == ["mode"]  # no draft is left
    drop_mode_record(paths)
    drop_mode_record(paths)
    assert recorded_mode(paths) is None


def test_a_node_that_never_was_has_no_record() -> None:
    assert recorded_mode(paths_for("/nonexistent")) is None


@pytest.mark.parametrize("text", ["", "inprocess", "cluster"])
def test_a_record_that_nobody_here_knows_is_refused_and_not_taken_for_none(paths: Paths, text: str) -> None:
    paths.run.joinpath("mode").write_text(text)
    with pytest.raises(InvalidSpec, match="is on record in"):
        recorded_mode(paths)


def test_a_directory_in_place_of_the_record_is_refused_in_words(paths: Paths) -> None:
    os.mkdir(paths.in_run("mode"))
    for act in (recorded_mode, record_daemon):
        with pytest.raises(InvalidSpec, match="is a directory"):
            act(paths)
    assert os.listdir(paths.run) == ["mode"]
    assert not daemon_writes(os.fsencode(paths.base))


def test_the_socket_lies_outside_of_what_is_roots_alone() -> None:
    paths = paths_for("/a")
    assert paths.socket == "/a/run/cellwall-api/cellwall.sock"
    assert not Path(paths.socket).is_relative_to(paths.run)


@pytest.mark.parametrize(("text", "environ", "mode"), [
    ("", {}, "inprocess"),
    ("[network]\nmtu = 1400\n", {}, "inprocess"),
    ('[node]\nmode = "daemon"\n', {}, "daemon"),
    ('[node]\nmode = "daem\\u006fn"\n', {}, "daemon"),
    ('[node]\nmode = "daemon"\n', {"CELLWALL_NODE_MODE": "inprocess"}, "inprocess"),
    ("", {"CELLWALL_NODE_MODE": "daemon"}, "daemon"),
    ("daemon!", {}, "inprocess"),  # wrong: said by whoever opens something, and no reason not to close
])  # fmt: skip
def test_without_a_record_the_configuration_says_who_writes(
    paths: Paths, text: str, environ: dict[str, str], mode: str
) -> None:
    paths.config_file.parent.mkdir(parents=True)
    paths.config_file.write_text(text)
    assert mode_of(paths, environ=environ) == mode
    record_daemon(paths)
    assert mode_of(paths, environ=environ) == "daemon"


@pytest.mark.root
def test_who_may_not_read_the_record_goes_by_the_socket() -> None:
    """A member of the daemon's group is no root, and the run directory is root's alone."""
    with TemporaryDirectory() as base:  # pytest's own are root's alone, too
        Path(base).chmod(0o755)
        judge_by_the_socket(paths_for(base))


def judge_by_the_socket(paths: Paths) -> None:
    paths.run.mkdir(parents=True, mode=0o700)
    record_daemon(paths)
    # Imported first: an interpreter under root's home cannot be read by anybody else.
    becomes = f"import os; os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)"
    program = f"from cellwall.config import *; {becomes}; print(recorded_mode(paths_for({paths.base!r})))"

    def asked() -> str:
        return subprocess.run([sys.executable, "-c", program], text=True, check=True, stdout=subprocess.PIPE).stdout

    assert asked() == "None\n"
    Path(paths.socket_directory).mkdir()
    Path(paths.socket).touch()
    assert asked() == "daemon\n"
