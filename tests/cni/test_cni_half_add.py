"""An ADD that was killed, and what the runtime does next."""

import os
import subprocess
from collections.abc import Callable
from itertools import count

import msgspec
import pytest
from cni_plugin import Plugin

from cellwall.api import Wall
from cellwall.cni import main
from cellwall.lab import Host, Lab, connect
from cellwall.lab.addresses import PUBLIC4
from engine.steps import Doom, Stepped, child_killed_at, stepped

pytestmark = [
    pytest.mark.root,
    # The lab's loop is a thread of this process. The child takes none of its locks: it opens a wall of its own.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
NewSandbox = Callable[[], Host]


@pytest.fixture(scope="module", autouse=True)
def internet(lab: Lab) -> None:
    lab.internet.serve(tcp=[80])


def start(plugin: Plugin, box: Host, stdout: int) -> "subprocess.Popen[bytes]":
    environ = os.environ | {
        "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "web", "CNI_NETNS": str(box.netns), "CNI_IFNAME": "eth0",
    }  # fmt: skip
    with plugin.lab.node.enter():
        call = subprocess.Popen([str(plugin.executable)], stdin=subprocess.PIPE, stdout=stdout, env=environ,
                                stderr=subprocess.DEVNULL)  # fmt: skip
    assert call.stdin is not None
    call.stdin.write(msgspec.json.encode(plugin.conf()))
    call.stdin.close()
    return call


def add_unheard(plugin: Plugin, box: Host) -> None:
    """An ADD that does everything and cannot tell anybody."""
    reader, writer = os.pipe()
    os.close(reader)
    call = start(plugin, box, writer)
    os.close(writer)
    assert call.wait(timeout=20) != 0


def test_an_add_that_reached_nobody_is_taken_up_by_the_next(plugin: Plugin, wall: Wall, sandbox: NewSandbox) -> None:
    box = sandbox()
    add_unheard(plugin, box)
    (endpoint,) = wall.endpoints()
    result = plugin.add("web", box)
    assert wall.endpoints() == (endpoint,)
    assert result["ips"][0]["address"].startswith(f"{endpoint.address4}/")
    assert connect(box, PUBLIC4[0], 80)
    assert plugin.call("ADD", "web", box).document["code"] == 101, "from now on it is delivered"


def test_an_add_that_reached_nobody_yields_to_a_new_sandbox_of_the_same_id(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox
) -> None:
    old, new = sandbox(), sandbox()
    add_unheard(plugin, old)
    plugin.add("web", new)
    (endpoint,) = wall.endpoints()
    assert endpoint.netns == str(new.netns)
    assert connect(new, PUBLIC4[0], 80)
    assert not connect(old, PUBLIC4[0], 80, timeout=0.2)


def test_an_add_that_reached_nobody_is_removed_by_del_and_by_gc(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox
) -> None:
    add_unheard(plugin, sandbox())
    plugin.delete("web")
    assert wall.endpoints() == ()
    add_unheard(plugin, sandbox())
    plugin.call("GC", conf={**plugin.conf(), "cni.dev/valid-attachments": []})
    assert wall.endpoints() == ()


def add_killed_at(plugin: Plugin, box: Host, step: int) -> bool:
    """An ADD whose process is killed before its n-th step: a call to an adapter or to the ledger, or its answer."""
    environ = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "web", "CNI_NETNS": str(box.netns), "CNI_IFNAME": "eth0"}
    conf = msgspec.json.encode(plugin.conf())

    def act(doom: Doom) -> None:
        opened, ledger = Wall.open, main.Ledger
        # Of the child, which ends here: its wall and its ledger count.
        Wall.open = lambda **options: stepped(opened(**options), doom)  # type: ignore[method-assign]
        main.Ledger = lambda path: Stepped(ledger(path), doom)  # type: ignore[assignment,misc]
        with plugin.lab.node.enter():
            assert main.answer_call(environ, conf, lambda answer: doom()) == 0

    return child_killed_at(step, act)


SOME = [pytest.param(3, id="some steps"), pytest.param(1, id="every step", marks=pytest.mark.slow)]


@pytest.mark.parametrize("follow", ["add", "del"])
@pytest.mark.parametrize("each", SOME)
def test_an_add_killed_at_any_step_is_put_right_by_the_next_call(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox, each: int, follow: str
) -> None:
    for step in count(each, each):
        box = sandbox()
        killed = add_killed_at(plugin, box, step)
        if follow == "add":
            reply = plugin.call("ADD", "web", box)
            # killed after its last step, or not at all, it was heard
            assert reply.status == 0 or reply.document["code"] == 101, f"step {step}: {reply}"
            assert connect(box, PUBLIC4[0], 80), f"step {step}"
        plugin.delete("web")
        assert wall.endpoints() == (), f"step {step}"
        assert not connect(box, PUBLIC4[0], 80, timeout=0.05), f"step {step}"
        if not killed:
            break
    assert step >= 10, "an ADD has more steps than that"
    wall.reconcile()
    assert wall.status().drift == ()
    assert "b9h" not in plugin.lab.node.run(["ip", "-br", "link"]).text
