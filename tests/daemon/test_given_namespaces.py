"""A namespace that a caller names is found once, as what it is, and is the caller's own."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cellwall.adapters.sandbox import netns
from cellwall.adapters.sandbox.namespaces import ProcNamespaces
from cellwall.api import AttachRequest, Wall
from cellwall.errors import AlreadyExists, CellwallError, Forbidden, InvalidSpec, NotFound
from daemon.served import namespace_of
from running import wait_until
from world import World, rewired

pytestmark = pytest.mark.root
USER, OTHER = 1000, 1001


@pytest.fixture
def served(node_lab: World) -> Iterator[Wall]:
    """A wall that does what others ask for; what a test leaves attached is detached."""
    wall = rewired(node_lab.wall, namespaces=ProcNamespaces(serving=True))
    yield wall
    wall.detach_many([endpoint.key for endpoint in wall.endpoints()])


@contextmanager
def beside(path: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process in that namespace."""
    with subprocess.Popen(["nsenter", f"--net={path}", "sleep", "600"]) as process:
        try:
            own = f"/proc/{process.pid}/ns/net"
            wait_until(lambda: os.stat(own).st_ino == os.stat(path).st_ino)
            yield process
        finally:
            process.kill()


def asked(container: str, path: str, user: int = USER, tenant: str = "t", ifname: str = "eth0") -> AttachRequest:
    return AttachRequest(container, netns=path, tenant=tenant, user=user, ifname=ifname)


def test_a_user_attaches_a_namespace_of_its_own_making(served: Wall) -> None:
    with namespace_of(USER) as path:
        (endpoint,) = served.attach_many([asked("mine", path)])
        assert served.attach_many([asked("mine", path)]) == (endpoint,)
        assert served.verify("mine") == ()


def test_a_user_attaches_no_namespace_of_another_or_of_the_node(served: Wall, node_lab: World) -> None:
    of_root = str(node_lab.host("root").netns)
    with namespace_of(OTHER) as of_another:
        for path in (of_another, of_root):
            with pytest.raises(Forbidden, match=f"no network namespace of the making of uid {USER}"):
                served.attach_many([asked("theirs", path)])
    with pytest.raises(Forbidden):
        served.attach_many([asked("node", f"/proc/{os.getpid()}/ns/net")])
    assert served.endpoints() == ()


def test_a_namespace_inside_one_that_the_user_made_is_the_users(served: Wall) -> None:
    with namespace_of(USER) as path:
        outer = Path(path).parents[1]
        nested = ["nsenter", f"--user={outer}/ns/user", "--", "unshare", "--user", "--net", "--", "sh", "-c"]
        with subprocess.Popen([*nested, "echo; exec sleep 600"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            served.attach_many([asked("nested", f"/proc/{process.pid}/ns/net")])
            process.kill()


def test_a_user_names_it_by_a_process_and_learns_of_no_other_path(served: Wall, tmp_path: Path) -> None:
    """It was looked for as root: by `..` and by links that is to ask which directories of others there are."""
    (tmp_path / "there").mkdir()
    (tmp_path / "linked").symlink_to("/proc")
    with namespace_of(USER) as path:
        process = Path(path).parents[1]
        held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        ways = (path, f"{process}/task/{process.name}/ns/net", f"/proc/{os.getpid()}/fd/{held}")
        for number, way in enumerate(ways):
            served.attach_many([asked(f"mine{number}", way, ifname=f"eth{number}")])
        up = "/.." * (len(tmp_path.parts) + 1)
        for name in ("there", "absent"):
            for container in ("new", "mine0"):
                with pytest.raises(Forbidden, match=f"no network namespace of the making of uid {USER}"):
                    served.attach_many([asked(container, f"{tmp_path}/{name}{up}{path}")])
        with pytest.raises(Forbidden):
            served.attach_many([asked("new", f"{tmp_path}/linked/{process.name}/ns/net")])
        os.close(held)


def test_a_users_namespace_serves_one_tenant(served: Wall) -> None:
    with namespace_of(USER) as path:
        served.attach_many([asked("one", path)])
        served.attach_many([asked("two", path, ifname="eth1")])
        with pytest.raises(Forbidden, match="another tenant"):
            served.attach_many([asked("three", path, tenant="other", ifname="eth2")])


def test_whose_a_taken_name_is_a_user_is_not_told(served: Wall) -> None:
    served.attach("web", tenant="secret")
    with namespace_of(USER) as path, pytest.raises(AlreadyExists) as refused:
        served.attach_many([asked("web", path)])
    assert str(refused.value) == "container id: web/eth0: is taken"


def test_a_symbolic_link_is_not_followed_for_others(served: Wall, node_lab: World, tmp_path: Path) -> None:
    place = node_lab.host("linked").netns
    (tmp_path / "link").symlink_to(place)
    (tmp_path / "proc").symlink_to("/proc/1/ns/net")
    for link in ("link", "proc"):
        with pytest.raises(InvalidSpec, match="symbolic link"):
            served.attach("linked", netns=tmp_path / link)
    (tmp_path / "directory").symlink_to(Path(place).parent)
    served.attach("linked", netns=tmp_path / "directory" / Path(place).name)  # only what it names must be itself
    assert node_lab.wall.verify("linked") == ()


def test_a_path_leads_into_no_files_of_a_process(served: Wall, tmp_path: Path) -> None:
    """They may be another world of mounts, and its owner's to answer for: a FUSE kept the one writer waiting."""
    with namespace_of(USER) as path:
        process = Path(path).parents[1]
        (tmp_path / "into").symlink_to(process / "root")
        for way in (process / "root", process / "cwd", Path("/proc/self"), tmp_path / "into"):
            for walked in (True, False):
                answer = "leads through a link in /proc" if walked else "no such|not a network"
                with pytest.raises(CellwallError, match=answer):
                    netns.open_netns(f"{way}/absent", walked=walked)
            with pytest.raises(Forbidden):
                served.attach_many([asked("lost", f"{way}{path}")])
        served.attach("found", netns=f"/run/../{path}/")
        assert served.verify("found") == ()


@pytest.mark.parametrize("way", ["/proc/{pid}/root/proc/{pid}/ns/net", "/proc/{pid}/ns/net"])
def test_what_root_attached_by_a_process_is_found_by_who_serves_and_after_that_process(
    served: Wall, node_lab: World, way: str
) -> None:
    with namespace_of(USER) as path, beside(path) as later:
        first = path.split("/")[2]
        node_lab.wall.attach("by-process", netns=way.format(pid=first))
        assert served.verify("by-process") == node_lab.wall.verify("by-process") == ()
        os.kill(int(first), signal.SIGKILL)
        wait_until(lambda: netns.find_identity(path, walked=True) is None)
        assert served.verify("by-process") == node_lab.wall.verify("by-process") == ()
        later.kill()
        wait_until(lambda: served.verify("by-process") != ())


def test_root_in_process_may_name_a_link(node_lab: World, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(node_lab.host("linked").netns)
    node_lab.wall.attach("linked", netns=tmp_path / "link")
    node_lab.wall.detach("linked")


@pytest.mark.parametrize("links", [True, False])
def test_nothing_but_a_network_namespace_is_opened(tmp_path: Path, links: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    paths = ("pipe", "file", "loop", "absent", "file/x", ".", "")
    others = ("/dev/null", "/proc/self/ns/user", "/proc/self/cwd", "/proc/self/exe", "/proc/self/ns", "/", "a\0b")
    for path in (*(str(tmp_path / each) for each in paths), *others, "", "x" * 5000):
        with pytest.raises(CellwallError) as refused:
            netns.open_netns(path, walked=not links, links=links)
        assert isinstance(refused.value, InvalidSpec | NotFound), path


def test_a_namespace_whose_users_are_the_nodes_is_nobodys_making(node_lab: World) -> None:
    place = node_lab.host("plain").netns
    with ProcNamespaces().opened(place) as namespace:
        assert not any(netns.made_by(namespace.fd, user) for user in (0, USER, 65534))
