"""Who may connect to the daemon's socket, and what at its path is left alone."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cellwall.daemon.http.sockets import handed_over, let_in, listening
from cellwall.errors import CellwallError, Conflict, InvalidSpec

pytestmark = pytest.mark.root
GROUP, OTHER = 5000, 5001
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.fixture
def path() -> Iterator[str]:
    with TemporaryDirectory() as place:  # pytest's own are root's alone
        os.chmod(place, 0o755)
        yield f"{place}/api/sock"


def lets_in(path: str, *, uid: int = 1000, gid: int = 1000, groups: str = "") -> bool:
    identity = [f"--reuid={uid}", f"--regid={gid}", f"--groups={groups}" if groups else "--clear-groups"]
    done = subprocess.run(
        ["setpriv", *identity, "--", sys.executable, "-c", CONNECT, path], capture_output=True, check=False
    )
    return done.returncode == 0


def mode(path: str | Path) -> tuple[int, int]:
    found = os.lstat(path)
    return stat.S_IMODE(found.st_mode), found.st_gid


def test_a_socket_without_a_group_is_roots_alone(path: str) -> None:
    with listening(path, None):
        assert (mode(path), mode(Path(path).parent)) == ((0o600, 0), (0o700, 0))
        assert lets_in(path, uid=0, gid=0)
        assert not lets_in(path)


def test_a_group_is_let_in_and_nobody_else(path: str) -> None:
    with listening(path, GROUP):
        assert (mode(path), mode(Path(path).parent)) == ((0o660, GROUP), (0o750, GROUP))
        assert lets_in(path, groups=str(GROUP))
        assert not lets_in(path, groups=str(OTHER))


def test_who_is_let_in_can_be_changed(path: str) -> None:
    with listening(path, GROUP):
        let_in(path, OTHER)
        assert (lets_in(path, groups=str(GROUP)), lets_in(path, groups=str(OTHER))) == (False, True)
        let_in(path, None)
        assert (mode(path), mode(Path(path).parent)) == ((0o600, 0), (0o700, 0))


def test_the_socket_is_gone_with_who_listened(path: str) -> None:
    with listening(path, None):
        pass
    assert os.listdir(Path(path).parent) == []


def test_what_a_killed_daemon_left_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as half:
        Path(path).parent.mkdir()
        dead.bind(path)
        half.bind(str(Path(path).parent / ".sock.draft"))
    with listening(path, None):
        assert lets_in(path, uid=0, gid=0)
        assert os.listdir(Path(path).parent) == ["sock"]


def test_a_path_of_any_length_is_listened_at(path: str) -> None:
    long = f"{Path(path).parent.parent}/{'x' * 120}/sock"
    with listening(long, None):
        assert stat.S_ISSOCK(os.stat(long).st_mode)


@pytest.mark.parametrize("made", ["file", "directory", "link", "served"])
def test_what_is_not_ours_at_the_path_stays(path: str, made: str) -> None:
    place = Path(path)
    place.parent.mkdir()
    elsewhere = place.parent.parent / "elsewhere"
    served = socket.socket(socket.AF_UNIX)
    with served:
        if made == "served":
            served.bind(path)
            served.listen()
        elif made == "link":
            served.bind(str(elsewhere))
            place.symlink_to(elsewhere)
        else:
            place.touch() if made == "file" else place.mkdir()
        before = os.lstat(path)
        with pytest.raises(Conflict), listening(path, None):
            pytest.fail("listens")
        assert os.lstat(path).st_ino == before.st_ino


@pytest.mark.parametrize("made", ["link", "file", "another's"])
def test_a_directory_that_is_not_ours_is_not_listened_in(path: str, made: str) -> None:
    place = Path(path).parent
    elsewhere = place.with_name("elsewhere")
    elsewhere.mkdir()
    if made == "link":
        place.symlink_to(elsewhere)
    elif made == "file":
        place.touch()
    else:
        place.mkdir()
        os.chown(place, 1000, 1000)
    with pytest.raises(Conflict), listening(path, GROUP):
        pytest.fail("listens")
    assert os.listdir(elsewhere) == []


def test_a_socket_that_was_handed_over_is_guarded_and_stays(path: str) -> None:
    Path(path).parent.mkdir()
    with socket.socket(socket.AF_UNIX) as unit:
        unit.bind(path)
        unit.listen()
        with handed_over(os.dup(unit.fileno()), path, GROUP):
            assert mode(path) == (0o660, GROUP)
        assert os.path.exists(path)


def test_a_descriptor_that_is_not_the_socket_is_refused(path: str) -> None:
    one, two = socket.socketpair()
    with one, two, pytest.raises(InvalidSpec, match="listens"), handed_over(os.dup(one.fileno()), path, None):
        pytest.fail("taken")
    with socket.socket(socket.AF_UNIX) as elsewhere:
        elsewhere.bind(path.replace("/api/", "/"))
        elsewhere.listen()
        with pytest.raises(CellwallError, match="must be"), handed_over(os.dup(elsewhere.fileno()), path, None):
            pytest.fail("taken")


def test_a_socket_with_a_full_queue_is_somebodys(path: str) -> None:
    os.mkdir(Path(path).parent, 0o700)
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as waiting:
        busy.bind(path)
        busy.listen(0)
        with pytest.raises(BlockingIOError):
            while True:
                each = waiting.enter_context(socket.socket(socket.AF_UNIX))
                each.setblocking(False)
                each.connect(path)
        with pytest.raises(Conflict, match="somebody else listens"), listening(path, None):
            pass
