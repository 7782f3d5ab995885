"""What a lab refuses, and that it notices when the machine did not stay as it was.

"The machine" is the namespace of the thread that starts the lab, so these tests start labs from a sandbox of another
lab: a machine that may be changed.
"""

import subprocess
import sys

import pytest

from cellwall.adapters import process
from cellwall.errors import LabError
from cellwall.lab import Host, Lab, addresses, connect, namespaces, safety

pytestmark = pytest.mark.root


@pytest.fixture
def machine(lab: Lab, request: pytest.FixtureRequest) -> Host:
    return lab.sandbox(f"m{abs(hash(request.node.name)) % 10**9}")


def test_lab_leaves_the_machine_as_it_was(machine: Host) -> None:
    with machine.enter():
        before = safety.snapshot()
        with Lab() as inner:
            assert connect(inner.lan, addresses.NODE4, 9).kind == "refused"
        assert safety.snapshot() == before
    assert namespaces.namespaces_of(inner.prefix) == []
    assert not inner.root.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (["ip", "link", "add", "br-leak", "type", "bridge"], "links"),
        (["ip", "link", "set", "lo", "up"], "links"),
        (["nft", "add", "table", "inet", "leak"], "ruleset"),
        (["sysctl", "-qw", "net.ipv4.ip_forward=1"], "switches"),
        (["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"], "switches"),
    ],
)
def test_change_of_the_machine_is_noticed(machine: Host, change: list[str], field: str) -> None:
    with machine.enter():
        inner = Lab()
        process.run(change)
        with pytest.raises(LabError, match=f"changed while a lab was open.*{field}"):
            inner.close()
    assert namespaces.namespaces_of(inner.prefix) == []


@pytest.mark.parametrize("link", ["leak type veth peer name leak2", "leak link up0 type macvlan mode bridge"])
def test_link_into_the_machine_is_noticed(machine: Host, link: str) -> None:
    machine.run(["ip", "link", "add", "up0", "type", "bridge"])
    with machine.enter():
        inner = Lab()
        process.run(["ip", "link", "add", *link.split()])
        process.run(["ip", "link", "set", "leak", "netns", str(inner.node.netns)])
        with pytest.raises((LabError, ExceptionGroup)) as raised:
            inner.close()
    failures = raised.value.exceptions if isinstance(raised.value, ExceptionGroup) else (raised.value,)
    assert any("link leak has its other end in the machine's own namespace" in str(error) for error in failures)
    assert namespaces.namespaces_of(inner.prefix) == []


def test_lab_refuses_a_prefix_in_use(lab: Lab) -> None:
    with pytest.raises(LabError, match="in use"):
        Lab(prefix=lab.prefix)
    assert lab.node.netns.exists()
    assert lab.root.exists()


def test_prefix_that_is_drawn_and_taken_is_drawn_again(lab: Lab) -> None:
    digits = iter([lab.prefix.removeprefix("cw"), "ffffffffff"])
    assert namespaces.free_prefix(lambda: next(digits)) == "cwffffffffff"


def test_each_lab_draws_from_as_many_prefixes_as_there_can_be(lab: Lab) -> None:
    assert len(lab.prefix) == 12
    assert len({namespaces.free_prefix() for _ in range(2000)}) == 2000


@pytest.mark.parametrize("prefix", ["x", "Upper", "has-dash", "0digit", "../up", "waytoolongprefix", "a b", "a\n"])
def test_lab_refuses_a_bad_prefix(prefix: str) -> None:
    with pytest.raises(LabError, match="prefix"):
        Lab(prefix=prefix)


def test_lab_refuses_without_root() -> None:
    # Imported first: an interpreter under root's home cannot be read by anybody else.
    program = "import os\nfrom cellwall.lab import Lab\nos.setresuid(65534, 65534, 65534)\nLab()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "LabError: a lab needs root" in done.stderr


def test_failed_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(fd: int) -> int:
        raise LabError("the kernel gave no answer")

    monkeypatch.setattr("cellwall.lab.links.netns_id", no_answer)
    with pytest.raises(LabError, match="no answer"):
        Lab(prefix="cwfailed")
    assert namespaces.namespaces_of("cwfailed") == []
    monkeypatch.undo()
    Lab(prefix="cwfailed").close()


METERED = """
table inet wall {
    set flows {
        type ipv4_addr; flags dynamic,timeout; timeout 6s;
        elements = { 10.0.0.1 limit rate 1/second burst 4 packets, %s };
    }
    set floor { type ipv4_addr; elements = { 10.0.0.8%s }; }
}
"""


@pytest.mark.parametrize(("more", "same"), [("", True), (", 10.0.0.9", False)])
def test_what_packets_add_to_a_dynamic_set_is_no_change_of_the_machine(machine: Host, more: str, same: bool) -> None:
    """A wall that stands on the machine counts on, and what it counted goes with time."""
    with machine.enter():
        process.run(["nft", "-f", "-"], input=(METERED % ("10.0.0.2", "")).encode())
        before = safety.snapshot()
        process.run(["nft", "flush", "ruleset"])
        process.run(["nft", "-f", "-"], input=(METERED % ("10.0.0.3, 10.0.0.4, 10.0.0.5", more)).encode())
        assert (safety.snapshot() == before) == same
