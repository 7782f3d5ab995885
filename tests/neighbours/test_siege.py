"""The siege is worth something: without the wall the same packets arrive, and it is noticed."""

import pytest

from neighbours.beside import tenants
from world import World

pytestmark = pytest.mark.root


def test_what_arrives_is_noticed(node_lab: World) -> None:
    node = node_lab.lab.node
    with tenants(node_lab) as ours:
        with ours.besieged():
            pass
        with pytest.raises(AssertionError, match="was reached"), ours.besieged():
            for family in ("bridge", "arp", "inet"):
                node.run(["nft", "delete", "table", family, "cellwall"])
            node.run(["tc", "qdisc", "del", "dev", "b9_br0", "clsact"])
    node_lab.wall.up()
