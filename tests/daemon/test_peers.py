"""Who is at the other end is what the kernel says."""

import grp
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import pytest

from cellwall.daemon.authority import Peer
from cellwall.daemon.http.peers import granted, group_number, peer_of
from cellwall.errors import InvalidSpec
from cellwall.model.grants import parse_grant

pytestmark = pytest.mark.root
CONNECT = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that anybody may connect to: pytest's own directories are root's alone."""
    with TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as listening:
        os.chmod(place, 0o755)
        listening.bind(f"{place}/s")
        os.chmod(f"{place}/s", 0o666)
        listening.listen()
        yield listening


def peer_as(listener: socket.socket, *identity: str) -> Peer:
    argv = ["setpriv", *identity, "--", sys.executable, "-c", CONNECT, listener.getsockname()]
    with listener, subprocess.Popen(argv) as client:
        listener.settimeout(10)
        connection, _ = listener.accept()
        with connection:
            peer = peer_of(connection)
        client.wait()
    assert peer.pid == client.pid
    return peer


def test_all_groups_of_a_process_count(listener: socket.socket) -> None:
    many = list(range(2000, 2300))  # more than a first look has room for
    peer = peer_as(listener, "--reuid=1000", "--regid=1000", f"--groups={','.join(map(str, many))}")
    assert (peer.uid, peer.groups) == (1000, {1000, *many})


def test_an_id_without_a_number_here_is_in_no_group(listener: socket.socket) -> None:
    peer = peer_as(listener, "--reuid=65534", "--regid=65534", "--groups=65534,3000")
    assert (peer.uid, peer.groups) == (65534, {3000})


def test_groups_are_named_or_numbered() -> None:
    some = next(group for group in grp.getgrall() if group.gr_gid not in (0, 65534))
    assert group_number(some.gr_name, "daemon.group") == group_number(str(some.gr_gid), "daemon.group") == some.gr_gid
    (one,) = granted([parse_grant(f"{some.gr_name} attach a", "daemon.allow")])
    assert one.gid == some.gr_gid


@pytest.mark.parametrize("name", ["no-such-group", "65534", "4294967296"])
def test_a_group_that_is_nobodys_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        granted([parse_grant(f"{name} attach a", "daemon.allow")])
    assert (refused.value.field, refused.value.value) == ("daemon.allow", f"{name} attach a")
