"""A runtime that starts and removes many containers at once: one process a call, no order among them."""

import os
import subprocess
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from cni_plugin import Plugin

from cellwall.api import Wall
from cellwall.lab import Host, Lab, connect
from cellwall.lab.addresses import NODE4, PUBLIC4, PUBLIC6

pytestmark = pytest.mark.root


def at_once(plugin: Plugin, verb: str, boxes: Sequence[Host], confs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One call for each container, all started before any is waited for; what they answered."""
    with plugin.lab.node.enter():
        calls = [
            subprocess.Popen(
                [str(plugin.executable)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ
                | {"CNI_COMMAND": verb, "CNI_CONTAINERID": box.name, "CNI_NETNS": str(box.netns), "CNI_IFNAME": "eth0"},
            )
            for box in boxes
        ]
    said = [call.communicate(msgspec.json.encode(conf), timeout=60)[0] for call, conf in zip(calls, confs, strict=True)]
    assert [call.returncode for call in calls] == [0] * len(calls), said
    return [msgspec.json.decode(text) if text else {} for text in said]


def test_many_containers_start_at_once_on_a_node_that_was_never_up(plugin: Plugin) -> None:
    with Lab() as lab:
        fresh = Plugin(lab, plugin.executable)
        lab.internet.serve(tcp=[80])
        boxes = lab.sandboxes([f"p{number}" for number in range(12)])
        confs = [
            fresh.conf(runtimeConfig={"portMappings": [{"hostPort": 8700 + number, "containerPort": 80}]})
            for number in range(12)
        ]
        results = at_once(fresh, "ADD", boxes, confs)
        for row in (0, 1):
            assert len({result["ips"][row]["address"] for result in results}) == 12
        assert len({result["interfaces"][1]["name"] for result in results}) == 12
        for box in (boxes[0], boxes[-1]):
            assert connect(box, PUBLIC4[0], 80)
            assert connect(box, PUBLIC6[0], 80)
        with boxes[7].serve(tcp=[80]):
            assert connect(lab.lan, NODE4, 8707)
        checks = [{**conf, "prevResult": result} for conf, result in zip(confs, results, strict=True)]
        assert at_once(fresh, "CHECK", boxes, checks) == [{}] * 12
        at_once(fresh, "DEL", boxes[:6], confs[:6])
        with lab.node.enter(), Wall.open(root=lab.root) as wall:
            assert {endpoint.key.container_id for endpoint in wall.endpoints()} == {box.name for box in boxes[6:]}
            assert wall.status().drift == ()
            assert wall.reconcile().repaired == ()
        at_once(fresh, "DEL", boxes, confs)
        assert "b9h" not in lab.node.run(["ip", "-br", "link"]).text
        assert not [box for box in boxes if "eth0" in box.run(["ip", "-br", "link"]).text]
