"""An ADD that was killed, and what the runtime does next."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

import msgspec
import pytest
from cni_plugin import Plugin

from cellwall.api import Wall
from cellwall.lab import Host, Lab, connect
from cellwall.lab.addresses import PUBLIC4

pytestmark = pytest.mark.root
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


@pytest.mark.parametrize("follow", ["add", "del"])
def test_an_add_killed_at_any_moment_is_put_right_by_the_next_call(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox, follow: str
) -> None:
    began = time.monotonic()
    plugin.add("web", sandbox())
    whole = time.monotonic() - began
    plugin.delete("web")
    for step in range(1, 13):
        box = sandbox()
        call = start(plugin, box, subprocess.DEVNULL)
        time.sleep(whole * step / 12)
        call.send_signal(signal.SIGKILL)
        call.wait()
        if follow == "add":
            reply = plugin.call("ADD", "web", box)
            # killed after its last write, it was heard
            assert reply.status == 0 or reply.document["code"] == 101, reply
            assert connect(box, PUBLIC4[0], 80), f"step {step}"
        plugin.delete("web")
        assert wall.endpoints() == ()
        assert not connect(box, PUBLIC4[0], 80, timeout=0.05)
    wall.reconcile()
    assert wall.status().drift == ()
    assert "b9h" not in plugin.lab.node.run(["ip", "-br", "link"]).text
