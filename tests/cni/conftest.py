"""One lab and one installed plugin per module; each test has fresh sandboxes and detaches what it attached."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from cni_plugin import Plugin

from cellwall.api import Wall
from cellwall.cni.install import install
from cellwall.lab import Host, Lab

_NUMBERS = count()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def plugin(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    directory: Path = tmp_path_factory.mktemp("cni")
    install(str(directory / "bin"), str(directory / "net.d"))
    return Plugin(lab, directory / "bin" / "cellwall-cni")


@pytest.fixture
def wall(lab: Lab) -> Iterator[Wall]:
    """The node's own view; everything is detached afterwards."""
    with lab.node.enter(), Wall.open(root=lab.root) as wall:
        wall.up()
    with lab.node.enter(), Wall.open(root=lab.root) as wall:
        yield wall
        wall.detach_many([endpoint.key for endpoint in wall.endpoints()])


@pytest.fixture
def sandbox(lab: Lab) -> Callable[[], Host]:
    """Makes new empty sandboxes."""
    return lambda: lab.sandbox(f"s{next(_NUMBERS)}")
