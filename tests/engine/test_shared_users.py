"""A sandbox without a user namespace of its own is no boundary against who has CAP_NET_ADMIN in it; status tells which
are, and it is no drift."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from world import World

pytestmark = pytest.mark.root


@contextmanager
def own_users(world: World) -> Iterator[str]:
    """The path of a network namespace that belongs to a user namespace of its own."""
    shell = "echo ready; exec sleep 60"
    process = world.host("users").popen(
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", shell], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield f"/proc/{process.pid}/ns/net"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_status_names_who_shares_the_nodes_users_and_nobody_else(node_lab: World) -> None:
    assert node_lab.wall.status().notes == ()
    with own_users(node_lab) as path:
        node_lab.wall.attach("apart", netns=path)
        assert node_lab.wall.status().notes == ()
        sharing = node_lab.attach("sharing")
        node_lab.wall.attach("made-here")
        status = node_lab.wall.status()
        (note,) = status.notes
        assert sharing.name in note
        assert "made-here" in note
        assert "apart" not in note
        assert (status.drift, status.warnings) == ((), ())
        assert node_lab.wall.verify(sharing.name) == ()
        for name in ("apart", sharing.name, "made-here"):
            node_lab.wall.detach(name)


def test_of_many_a_few_are_named(node_lab: World) -> None:
    names = [f"many-{number}" for number in range(7)]
    for name in names:
        node_lab.wall.attach(name)
    (note,) = node_lab.wall.status().notes
    assert note.startswith("7 sandboxes share")
    assert "many-0" in note
    assert "many-6" not in note
    for name in names:
        node_lab.wall.detach(name)
