"""Several processes at once, each with a wall of its own on one node: attach, detach, expose, reconcile, up, list.

Each is a child of this test that starts when all are ready, does what it is told and says what became of it. Afterwards
desired is live, and what each was promised is what there is.
"""

import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from cellwall.api import AttachRequest, EndpointKey, Wall
from cellwall.errors import CellwallError
from cellwall.lab.addresses import NODE4
from engine.snapshots import node_snapshot
from engine.steps import assert_converged
from world import PUBLIC4, PUBLIC6, World, assert_connection

pytestmark = [
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
Work = Callable[[Wall], list[str]]


def at_once(world: World, works: Sequence[Work], tmp_path: Path) -> list[list[str]]:
    """Do each work in a process of its own, all let go together; what each returned."""
    ready, go = os.pipe(), os.pipe()
    children = [_child(world, work, tmp_path / str(number), ready, go) for number, work in enumerate(works)]
    os.close(ready[1])
    os.close(go[0])
    for _ in children:
        os.read(ready[0], 1)
    os.write(go[1], b"." * len(children))
    statuses = [os.waitpid(child, 0)[1] for child in children]
    for end in (ready[0], go[1]):
        os.close(end)
    said = [(tmp_path / str(number)).read_bytes() for number in range(len(children))]
    assert statuses == [0] * len(children), b"\n".join(said).decode()
    return [msgspec.json.decode(text, type=list[str]) for text in said]


def _child(world: World, work: Work, path: Path, ready: tuple[int, int], go: tuple[int, int]) -> int:
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        try:
            wall = Wall.open(root=world.lab.root, settings=world.wall.settings)
        finally:  # also of a child that fails: the others are waited for, and wait
            os.write(ready[1], b".")
        with wall:
            os.read(go[0], 1)
            path.write_bytes(msgspec.json.encode(work(wall)))
        status = 0
    except BaseException:
        path.write_text(traceback.format_exc())
    finally:
        os._exit(status)


def test_each_of_many_processes_gets_what_nobody_else_has(node: World, tmp_path: Path) -> None:
    hosts = [[node.host(f"p{process}") for _ in range(4)] for process in range(6)]

    def attach(process: int) -> Work:
        def work(wall: Wall) -> list[str]:
            made = [wall.attach(host.name, netns=host.netns) for host in hosts[process]]
            wall.expose(hosts[process][0].name, f"{8500 + process}:80")
            return [f"{e.address4} {e.address6} {e.mac} {e.host_link} {e.generation}" for e in made]

        return work

    said = at_once(node, [attach(process) for process in range(6)], tmp_path)
    columns = list(zip(*(line.split() for lines in said for line in lines), strict=True))
    assert [len(set(column)) for column in columns] == [24] * 5
    assert {str(endpoint.address4) for endpoint in node.wall.endpoints()} == set(columns[0])
    assert_converged(node.wall)
    for process, (first, *_, last) in enumerate(hosts):
        assert_connection(last, PUBLIC4, 80)
        assert_connection(last, PUBLIC6, 80)
        with first.serve(tcp=[80]):
            assert_connection(node.lab.lan, NODE4, 8500 + process)
    node.wall.detach_many([EndpointKey(host.name) for row in hosts for host in row])


def test_one_request_of_many_processes_is_one_endpoint(node: World, tmp_path: Path) -> None:
    """All are told the same; of a port that several want for different containers one gets it, the others a refusal."""
    host = node.host("same")

    def same(wall: Wall) -> list[str]:
        return [repr(wall.attach(host.name, netns=host.netns, expose=["8510:80"]))]

    assert len({line for (line,) in at_once(node, [same] * 6, tmp_path)}) == 1
    assert len(node.wall.endpoints()) == 1
    names = [node.attach("rival").name for _ in range(5)]

    def rival(name: str) -> Work:
        def work(wall: Wall) -> list[str]:
            try:
                wall.expose(name, "8511:80")
            except CellwallError as error:
                return [type(error).__name__, str(error)]
            return ["had it"]

        return work

    said = at_once(node, [rival(name) for name in names], tmp_path)
    assert sorted(line[0] for line in said) == ["Taken"] * 4 + ["had it"]
    (holder,) = [e.key.container_id for e in node.wall.endpoints() if any(b.host_port == 8511 for b in e.bindings)]
    assert all(holder in line[1] for line in said if line[0] == "Taken")
    detached = at_once(node, [lambda wall: [str(wall.detach(host.name))]] * 6, tmp_path)
    assert sorted(line for (line,) in detached) == ["False"] * 5 + ["True"]
    assert_converged(node.wall)
    node.wall.detach_many([EndpointKey(name) for name in names])


@pytest.mark.slow
def test_every_operation_beside_every_other_ends_converged(node: World, tmp_path: Path) -> None:
    """The first process keeps its endpoint throughout; the others come and go, publish, repair, lay, read."""
    kept = node.attach("kept", expose=["8520:80"])

    def churn(process: int) -> Work:
        def work(wall: Wall) -> list[str]:
            for turn in range(6):
                name = f"churn-{process}-{turn}"
                wall.attach(name)
                wall.expose(name, f"{8530 + process}:80")
                wall.expose(name, f"{8540 + 10 * process + turn}:80@198.51.{process}.0/{24 + turn % 3}")
                wall.unexpose(name, f"{8530 + process}:80")
                assert wall.endpoint(name).bindings
                if turn % 2:
                    assert wall.detach(name)
            return []

        return work

    def batches(wall: Wall) -> list[str]:
        for _ in range(4):
            names = [f"batch-{number}" for number in range(8)]
            wall.attach_many([AttachRequest(name) for name in names])
            assert wall.detach_many([EndpointKey(name) for name in names]) == 8
        return []

    def repairs(wall: Wall) -> list[str]:
        return [line for _ in range(8) for line in (*wall.reconcile().repaired, *wall.status().drift)]

    def lays(wall: Wall) -> list[str]:
        for _ in range(8):
            wall.up()
            wall.endpoints()
        return []

    said = at_once(node, [churn(0), churn(1), batches, repairs, repairs, lays], tmp_path)
    assert said == [[]] * 6, "an operation of a living process looked like a crash"
    left = {endpoint.key.container_id for endpoint in node.wall.endpoints()}
    assert left == {kept.name, *(f"churn-{process}-{turn}" for process in (0, 1) for turn in (0, 2, 4))}
    assert_converged(node.wall)
    with kept.host.serve(tcp=[80]):
        assert_connection(node.lab.lan, NODE4, 8520)
    assert_connection(kept.host, PUBLIC6, 80)
    node.wall.detach_many([endpoint.key for endpoint in node.wall.endpoints()])


def test_a_bare_node_is_laid_once_by_whoever_comes_first(fresh_node: World, tmp_path: Path) -> None:
    bare = node_snapshot(fresh_node)
    said = at_once(fresh_node, [lambda wall: [str(wall.up().changed)]] * 5, tmp_path)
    assert sorted(line for (line,) in said) == ["False"] * 4 + ["True"]
    assert_converged(fresh_node.wall)
    at_once(fresh_node, [lambda wall: [str(wall.down())]] * 4, tmp_path)
    assert node_snapshot(fresh_node) == bare
    attached = at_once(fresh_node, [lambda wall: [str(wall.attach("first").address4)]] * 4, tmp_path)
    assert len({line for (line,) in attached}) == 1
    fresh_node.wall.down(force=True)
    assert node_snapshot(fresh_node) == bare
