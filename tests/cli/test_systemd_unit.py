"""The units are ones that systemd accepts, and say what the wall relies on."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "packaging/systemd"
UNIT, WATCH = UNITS / "cellwall.service", UNITS / "cellwall-watch.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", [UNIT, WATCH], ids=lambda unit: unit.stem)
def test_systemd_accepts_the_unit(tmp_path: Path, unit: Path) -> None:
    # Only the program's place differs: systemd-analyze wants to see it, and a checkout does not install it.
    program = shutil.which("true") or sys.executable
    for each in (UNIT, WATCH):
        (tmp_path / each.name).write_text(each.read_text().replace("=cellwall ", f"={program} "))
    argv = ["systemd-analyze", "verify", str(tmp_path / unit.name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_comes_after_what_flushes_and_before_what_starts_containers() -> None:
    lines = UNIT.read_text().splitlines()
    after = {word for line in lines if line.startswith("After=") for word in line[6:].split()}
    before = {word for line in lines if line.startswith("Before=") for word in line[7:].split()}
    assert {"network-online.target", "nftables.service"} <= after
    assert {"containerd.service", "docker.service"} <= before
    assert not after & before


def test_stopping_the_unit_does_not_take_the_wall_down() -> None:
    lines = UNIT.read_text().splitlines()
    assert not any(line.startswith("ExecStop") for line in lines)
    assert "RuntimeDirectoryPreserve=yes" in lines


def test_the_watch_is_not_restarted_with_what_flushes_and_comes_back_when_it_ends() -> None:
    lines = WATCH.read_text().splitlines()
    assert not any(line.startswith(("PartOf=", "BindsTo=", "Requires=")) for line in lines)
    assert "Restart=always" in lines
    assert "After=cellwall.service" in lines


def test_the_wheel_brings_every_unit() -> None:
    project = tomllib.loads((UNITS.parents[1] / "pyproject.toml").read_text())
    brought = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert {Path(name).name for name in brought} == {unit.name for unit in UNITS.iterdir()}
    assert set(brought.values()) == {f"lib/systemd/system/{unit.name}" for unit in UNITS.iterdir()}
