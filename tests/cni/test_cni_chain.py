"""A conflist in which reference plugins follow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cni_plugin import Plugin

from cellwall.api import Wall
from cellwall.lab import Host, Lab, connect
from cellwall.lab.addresses import PUBLIC4

pytestmark = pytest.mark.root

REFERENCE = Path("/usr/lib/cni")


def follow(plugin: Plugin, verb: str, box: Host, conf: dict[str, Any], previous: Any) -> dict[str, Any]:
    """One call of a plugin further down the list, as libcni makes it."""
    program = REFERENCE / conf["type"]
    if not program.exists():
        pytest.skip(f"{program} is not installed")
    environ = {
        "CNI_COMMAND": verb, "CNI_CONTAINERID": "web", "CNI_NETNS": str(box.netns), "CNI_IFNAME": "eth0",
        "CNI_PATH": str(REFERENCE),
    }  # fmt: skip
    given = msgspec.json.encode({"cniVersion": "1.0.0", "name": "net", "prevResult": previous, **conf})
    done = plugin.lab.node.run([str(program)], input=given, env=environ, check=False)
    if done.returncode and b"ifb" in done.stdout:
        pytest.skip(f"this kernel has no ifb: {done.text}")
    assert done.returncode == 0, done
    return msgspec.json.decode(done.stdout) if done.stdout else {}


@pytest.mark.parametrize("conf", [
    {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "allmulti": True},
    {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000},
], ids=["tuning", "bandwidth"])  # fmt: skip
def test_a_plugin_that_follows_works_on_our_result(
    plugin: Plugin, lab: Lab, wall: Wall, sandbox: Callable[[], Host], tmp_path: Path, conf: dict[str, Any]
) -> None:
    if conf["type"] == "tuning":
        conf = {**conf, "dataDir": str(tmp_path)}
    box = sandbox()
    spoken = plugin.conf(cniVersion="1.0.0")
    result = plugin.add("web", box, conf=spoken)
    final = follow(plugin, "ADD", box, conf, result)
    assert final["ips"] == result["ips"]
    lab.internet.serve(tcp=[80 if conf["type"] == "tuning" else 81])
    assert connect(box, PUBLIC4[0], 80 if conf["type"] == "tuning" else 81)
    checked = plugin.call("CHECK", "web", box, conf={**spoken, "prevResult": final})
    assert checked.status == 0, checked
    follow(plugin, "CHECK", box, conf, final)
    follow(plugin, "DEL", box, conf, final)
    plugin.delete("web", conf={**spoken, "prevResult": final})


def test_a_result_of_an_earlier_plugin_is_passed_on(plugin: Plugin, wall: Wall, sandbox: Callable[[], Host]) -> None:
    earlier = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "lo"}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
    }
    result = plugin.add("web", sandbox(), conf=plugin.conf(cniVersion="1.0.0", prevResult=earlier))
    assert result["interfaces"][0] == {"name": "lo"}
    assert [row["interface"] for row in result["ips"]] == [0, 3, 3]
