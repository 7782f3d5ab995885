"""The kernel takes B9-FORWARD as iptables-restore text, in both families, and holds what was written."""

from collections.abc import Iterator

import pytest

from cellwall.adapters import process
from cellwall.lab import Host, Lab

pytestmark = pytest.mark.root

SETS = {
    "members": "hash:ip",
    "floor": "hash:net",
    "noclients": "hash:net",
    "opened": "hash:ip,port",
    "exposed": "hash:ip,port,net",
}


@pytest.fixture(scope="module")
def node() -> Iterator[Host]:
    with Lab() as lab:
        yield lab.node


@pytest.mark.parametrize(("version", "program"), [(4, "iptables"), (6, "ip6tables")])
@pytest.mark.parametrize("flavour", ["nft", "legacy"])
def test_the_golden_loads(node: Host, version: int, program: str, flavour: str, request: pytest.FixtureRequest) -> None:
    text = (request.config.rootpath / f"tests/golden/b9-forward.v{version}.iptables").read_text()
    if process.find_program("ipset") is None:
        pytest.skip("ipset is not installed")
    family = "inet" if version == 4 else "inet6"
    for name, kind in SETS.items():
        node.run(["ipset", "create", "-exist", f"b9{name}{version}", *kind.split(" "), "family", family])
    node.run([f"{program}-{flavour}-restore", "--noflush", "--wait"], input=text.encode())
    saved = node.run([f"{program}-{flavour}-save", "-t", "filter"]).text
    rules = [line for line in text.splitlines() if line.startswith("-A")]
    assert len([line for line in saved.splitlines() if line.startswith("-A B9-")]) == len(rules)
