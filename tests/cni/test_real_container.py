"""Real containers: containerd, runc and `ctr run --cni` with the installed plugin, in a lab node, whose wall the plugin
changes itself or has its daemon change."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from containerd_node import ContainerdNode

from cellwall.api import Wall
from cellwall.client import Client
from cellwall.lab import Lab, connect
from cellwall.lab.addresses import METADATA4, NODE4, NODE6, PUBLIC4, PUBLIC6, ZONE
from client.serving import served

pytestmark = [pytest.mark.root, pytest.mark.slow]
DOCUMENTED = Path(__file__).parents[2]
OpenNode = Callable[[], AbstractContextManager[Wall | Client]]


@pytest.fixture(scope="module", params=["in process", "daemon"])
def opened(request: pytest.FixtureRequest, lab: Lab) -> Iterator[OpenNode]:
    """Opens the node's own view."""

    @contextmanager
    def itself() -> Iterator[Wall]:
        with lab.node.enter(), Wall.open(root=lab.root) as wall:
            yield wall

    if request.param == "in process":
        yield itself
        return
    with served(lab):
        yield lambda: Client.open(root=lab.root)


@pytest.fixture(scope="module")
def runtime(opened: OpenNode, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerdNode]:
    for program in ("containerd", "ctr", "runc", "busybox"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    # containerd's socket paths must fit into sockaddr_un
    base: Path = tmp_path_factory.mktemp("cd")
    node = ContainerdNode(lab, base)
    with lab.internet.serve(tcp=[80, 443], udp=[53000]), lab.node.serve(tcp=[22, 10250]):
        yield node
    for name in ("web", "rogue"):
        node.remove(name)
    node.close()


def asked(runtime: ContainerdNode, name: str, address: str, port: int) -> str:
    """What a container's TCP connection brings back within a second."""
    return runtime.exec(name, f"echo hello | nc -w 1 {address} {port}").text


def test_containers_run_behind_the_wall(runtime: ContainerdNode, opened: OpenNode, lab: Lab) -> None:
    runtime.publish([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}])
    runtime.run("web", "/bin/nc", "-ll", "-p", "80", "-e", "/bin/echo", "published")
    runtime.publish([])
    runtime.run("rogue", "/bin/sleep", "300")
    with opened() as wall:
        by_id = {endpoint.key.container_id: endpoint for endpoint in wall.endpoints()}
    assert sorted(by_id) == ["lab-rogue", "lab-web"]
    web = by_id["lab-web"]

    # the controls: the same connections succeed where they should
    assert asked(runtime, "rogue", PUBLIC4[2], 80) == "internet hello\n"
    assert asked(runtime, "rogue", PUBLIC6[2], 80) == "internet hello\n"
    for address in (NODE4, NODE6):
        assert connect(lab.lan, address, 8080).data == b"published\n"
    assert connect(lab.node, NODE4, 8080).data == b"published\n"
    assert connect(lab.lan, NODE4, 22)
    assert connect(lab.lan, NODE6, 22)
    for address in METADATA4.values():
        assert connect(lab.node, address, 80), address

    denied = [
        (str(web.address4), 80),
        (str(web.address6), 80),
        (NODE4, 22),
        (NODE6, 22),
        ("192.168.0.1", 10250),
        ("fd00:abcd::1", 10250),
        (NODE4, 8080),
        *((address, 80) for address in METADATA4.values()),
    ]
    for address, port in denied:
        assert asked(runtime, "rogue", address, port) == "", (address, port)


def test_a_removed_container_leaves_nothing(runtime: ContainerdNode, opened: OpenNode) -> None:
    done = runtime.run("brief", "/bin/sh", "-c", "echo hello | nc -w 1 1.1.1.1 80", detach=False)
    assert done.text == "internet hello\n"
    with opened() as wall:
        assert "lab-brief" not in {endpoint.key.container_id for endpoint in wall.endpoints()}
        wall.reconcile()
        assert wall.status().drift == ()


@pytest.mark.parametrize("page", ["README.md", "docs/cni.md"])
def test_the_container_that_the_documentation_runs_gets_its_page(
    runtime: ContainerdNode, lab: Lab, tmp_path: Path, page: str
) -> None:
    shown = re.search(r"^ctr run --cni --rm \S+ web (.*)$", (DOCUMENTED / page).read_text(), re.MULTILINE)
    assert shown
    (tmp_path / "index.html").write_text("the page\n")
    command = shown[1].replace("http://example.org", f"http://example.{ZONE}:8000")
    assert command != shown[1]
    argv = [sys.executable, "-um", "http.server", "8000", "--directory", str(tmp_path)]
    server = lab.internet.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout is not None
        assert server.stdout.readline()
        assert runtime.run("shown", *shlex.split(command), detach=False).text == "the page\n"
    finally:
        server.terminate()
        server.communicate()


def test_tuning_and_bandwidth_follow_in_the_list(runtime: ContainerdNode, opened: OpenNode, lab: Lab) -> None:
    for name in ("tuning", "bandwidth"):
        if not Path("/usr/lib/cni", name).exists():
            pytest.skip(f"the {name} plugin is not installed")
    runtime.follow(
        {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}},
        {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000},
    )
    try:
        runtime.run("tuned", "/bin/sleep", "300")
        with opened() as wall:
            link = wall.endpoint("lab-tuned").host_link
        tuned = runtime.exec("tuned", "read value < /proc/sys/net/ipv4/conf/eth0/arp_filter; echo $value")
        assert tuned.text == "1\n"
        assert "tbf" in lab.node.run(["tc", "qdisc", "show", "dev", link]).text
        assert asked(runtime, "tuned", PUBLIC4[2], 80) == "internet hello\n"
        assert asked(runtime, "tuned", NODE4, 22) == ""
    finally:
        runtime.remove("tuned")
        runtime.follow()
