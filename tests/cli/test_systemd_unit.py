"""The units are ones that systemd accepts, and say what the wall relies on."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cellwall.config import paths_for
from cellwall.daemon.http import sockets

UNITS = Path(__file__).parents[2] / "packaging/systemd"
UNIT, WATCH, DAEMON = (UNITS / f"cellwall{name}.service" for name in ("", "-watch", "-daemon"))
SOCKET = UNITS / "cellwall-daemon.socket"
ALL = (UNIT, WATCH, DAEMON, SOCKET)
ANALYZED = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def words(unit: Path, key: str) -> list[str]:
    """All that the unit says behind a key, the words of each line."""
    lines = [line.partition("=") for line in unit.read_text().splitlines()]
    return [word for name, _, value in lines if name == key for word in value.split()]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    # Only the program's place differs: systemd-analyze wants to see it, and a checkout does not install it.
    program = shutil.which("true") or sys.executable
    for each in ALL:
        (tmp_path / each.name).write_text(each.read_text().replace("=cellwall ", f"={program} "))
    return tmp_path


@ANALYZED
@pytest.mark.parametrize("unit", ALL, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(installed: Path, unit: Path) -> None:
    argv = ["systemd-analyze", "verify", str(installed / unit.name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@ANALYZED
@pytest.mark.parametrize("unit", [UNIT, WATCH, DAEMON], ids=lambda unit: unit.name)
def test_the_service_is_as_bounded_as_its_work_allows(installed: Path, unit: Path) -> None:
    """What systemd counts against it is what networks are made with; 10 is a service with nothing taken away."""
    argv = ["systemd-analyze", "security", "--offline=yes", "--threshold=75", str(installed / unit.name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


@pytest.mark.parametrize("unit", [WATCH, DAEMON], ids=lambda unit: unit.name)
def test_every_service_is_bounded_as_the_first_one_is(unit: Path) -> None:
    """The daemon gives its socket to a group and listens at ports, and more it may not either."""
    more = {"CAP_CHOWN", "CAP_NET_BIND_SERVICE"} if unit is DAEMON else set()
    assert set(words(unit, "CapabilityBoundingSet")) == set(words(UNIT, "CapabilityBoundingSet")) | more
    for key in ("NoNewPrivileges", "RestrictAddressFamilies", "RestrictNamespaces", "LockPersonality", "UMask"):
        assert words(unit, key) == words(UNIT, key) != [], key


@pytest.mark.parametrize("unit", [UNIT, DAEMON], ids=lambda unit: unit.name)
def test_unit_comes_after_what_flushes_and_before_what_starts_containers(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    after = {word for line in lines if line.startswith("After=") for word in line[6:].split()}
    before = {word for line in lines if line.startswith("Before=") for word in line[7:].split()}
    assert {"nftables.service"} <= after
    assert unit is DAEMON or "network-online.target" in after
    assert {"containerd.service", "docker.service"} <= before
    assert not after & before


@pytest.mark.parametrize("unit", [UNIT, DAEMON], ids=lambda unit: unit.name)
def test_stopping_the_unit_does_not_take_the_wall_down(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    assert not any(line.startswith("ExecStop") for line in lines)
    assert "RuntimeDirectoryPreserve=yes" in lines


def test_the_watch_is_not_restarted_with_what_flushes_and_comes_back_when_it_ends() -> None:
    lines = WATCH.read_text().splitlines()
    assert not any(line.startswith(("PartOf=", "BindsTo=", "Requires=")) for line in lines)
    assert "Restart=always" in lines
    assert "After=cellwall.service" in lines


def test_the_daemon_is_ready_when_it_says_so_watched_and_always_there() -> None:
    assert words(DAEMON, "Type") == ["notify"]
    assert words(DAEMON, "NotifyAccess") == ["main"]
    assert words(DAEMON, "WatchdogSec") != []
    assert (words(DAEMON, "Restart"), words(DAEMON, "StartLimitIntervalSec")) == (["always"], ["0"])
    assert "cellwall.service" in words(DAEMON, "Before"), "`cellwall up` asks it"
    assert "cellwall-watch.service" in words(DAEMON, "Conflicts")


def test_the_daemons_socket_is_where_it_is_asked_and_called_as_it_expects() -> None:
    assert words(SOCKET, "ListenStream") == [paths_for("/").socket]
    assert words(SOCKET, "FileDescriptorName") == [sockets.NAME]
    assert (words(SOCKET, "SocketMode"), words(SOCKET, "DirectoryMode")) == (["0600"], ["0700"])
    assert SOCKET.name in words(DAEMON, "Requires")


def test_the_daemons_store_has_room_for_the_socket_that_owns_the_rules_and_the_next_one() -> None:
    assert int(words(DAEMON, "FileDescriptorStoreMax")[0]) >= 2
    assert "PartOf" not in DAEMON.read_text().replace("# Not PartOf=", ""), "a flush must not restart it"


def test_the_wheel_brings_every_unit_and_whatever_else_is_packaged() -> None:
    packaging = UNITS.parent
    project = tomllib.loads((packaging.parent / "pyproject.toml").read_text())
    brought = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    found = {f"packaging/{path.relative_to(packaging)}" for path in packaging.rglob("*") if path.is_file()}
    assert set(brought) == found
    for name, place in brought.items():
        inside = Path(name).relative_to("packaging")
        assert place in (f"lib/systemd/system/{inside.name}", f"share/cellwall/{inside}")
        assert (inside.parts[0] == "systemd") == place.startswith("lib/systemd/")
