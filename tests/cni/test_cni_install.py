"""`cellwall cni install`."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cellwall.cni.install import conflist, install, launcher, main
from cellwall.errors import AlreadyExists, InvalidSpec


def version_of(executable: Path) -> dict[str, object]:
    done = subprocess.run(
        [str(executable)], input=b"", env={"CNI_COMMAND": "VERSION"}, capture_output=True, check=True, timeout=30
    )
    assert done.stderr == b""
    return msgspec.json.decode(done.stdout, type=dict[str, object])


def test_the_installed_plugin_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "net.d")]) == 0
    executable = tmp_path / "bin" / "cellwall-cni"
    assert stat.S_IMODE(executable.stat().st_mode) == 0o755
    assert version_of(executable) == {"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}
    assert str(executable) in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "bin")) == ["cellwall-cni"]
    assert sorted(os.listdir(tmp_path / "net.d")) == ["10-cellwall.conflist"]


def test_the_environment_cannot_change_what_is_imported(tmp_path: Path) -> None:
    install(str(tmp_path), str(tmp_path))
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "msgspec.py").write_text("raise SystemExit('evil')\n")
    environ = {"CNI_COMMAND": "VERSION", "PYTHONPATH": str(evil), "PYTHONSTARTUP": str(evil), "PYTHONHOME": str(evil)}
    done = subprocess.run(
        [str(tmp_path / "cellwall-cni")], input=b"", env=environ, cwd=evil, capture_output=True, check=True, timeout=30
    )
    assert b"supportedVersions" in done.stdout


def test_an_interpreter_with_blanks_or_a_long_path_goes_through_sh(tmp_path: Path) -> None:
    for name in ("a b'c", "x" * 200):
        directory = tmp_path / name
        directory.mkdir()
        interpreter = directory / "python"
        interpreter.symlink_to(sys.executable)
        executable = directory / "plugin"
        executable.write_bytes(launcher(interpreter=str(interpreter)))
        executable.chmod(0o755)
        assert "supportedVersions" in version_of(executable)


def test_installing_twice_changes_nothing(tmp_path: Path) -> None:
    install(str(tmp_path), str(tmp_path))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert "as it was" in install(str(tmp_path), str(tmp_path))[0]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_what_an_operator_changed_is_kept_without_force(tmp_path: Path) -> None:
    install(str(tmp_path), str(tmp_path))
    edited, executable = tmp_path / "10-cellwall.conflist", tmp_path / "cellwall-cni"
    edited.write_text("{}")
    executable.write_bytes(executable.read_bytes() + b"# older\n")
    with pytest.raises(AlreadyExists, match=r"10-cellwall\.conflist"):
        install(str(tmp_path), str(tmp_path))
    assert edited.read_text() == "{}"
    assert b"older" in executable.read_bytes(), "all or nothing"
    install(str(tmp_path), str(tmp_path), force=True)
    assert edited.read_bytes() == conflist()
    assert executable.read_bytes() == launcher()


def test_a_foreign_file_of_the_plugins_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cellwall-cni").write_text("#!/bin/sh\n")
    with pytest.raises(AlreadyExists):
        install(str(tmp_path), str(tmp_path / "net.d"))
    assert not (tmp_path / "net.d").exists()


def test_the_conflist_is_one_that_every_libcni_reads() -> None:
    document = msgspec.json.decode(conflist("/srv/node"))
    assert document["cniVersion"] == "1.0.0"
    assert document["plugins"][0]["type"] == "cellwall-cni"
    assert document["plugins"][0]["root"] == "/srv/node"
    with pytest.raises(InvalidSpec, match="root"):
        install("/nonexistent", "/nonexistent", root="relative")
