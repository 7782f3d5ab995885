"""What commands do and say by a configuration, and what a wrong one never keeps from being closed."""

import pytest
from nodecommand import Command

from cellwall.lab import Lab

pytestmark = pytest.mark.root


def test_bad_node_is_refused_by_name(lab: Lab) -> None:
    cellwall = Command(lab)
    cellwall("down", "--force")
    lab.node.run(["ip", "link", "add", "foreign0", "type", "bridge"])
    before = cellwall.snapshot()
    for settings, status, named in (
        (["network.bridge=foreign0"], 4, "foreign0"),
        (["network.subnet4=93.184.216.0/24"], 4, "93.184.216.0/24"),
        (["node.interface=nowhere0"], 2, "nowhere0"),
        (["network.bridge=eth0"], 2, 'network.bridge: "eth0"'),
    ):
        said = cellwall("up", *(word for setting in settings for word in ("--set", setting)))
        assert said.status == status, (settings, said)
        assert named in said.err
        assert said.err.count("\n") == 1
        assert cellwall.snapshot() == before
    lab.node.run(["ip", "link", "del", "foreign0"])


@pytest.mark.parametrize(
    ("backend", "held"), [("auto", "nftables"), ("iptables", "iptables (nft)"), ("nftables", "nftables")]
)
def test_status_and_configuration_say_what_holds_the_wall(lab: Lab, backend: str, held: str) -> None:
    cellwall = Command(lab)
    chosen = ("--set", f"node.backend={backend}")
    if held != "nftables":
        chosen = (*chosen, "--set", "node.iptables=nft")
    assert cellwall("up", "--json", *chosen).json["mechanism"] == held
    assert cellwall("status", "--json").json["mechanism"] == held
    assert held in cellwall("status").out
    assert cellwall("config", "show", "--json").json["mechanism"] == held
    assert cellwall("config", "show").out.endswith(f"the wall stands in {held}\n")
    assert cellwall("down", "--force").status == 0
    assert cellwall("config", "show", "--json").json["mechanism"] == ""


@pytest.mark.parametrize("text", ["nonsense = [\n", "[node]\nprotekt = []\n", '[network]\nsubnet4 = "10.9.0.0/33"\n'])
def test_a_configuration_gone_wrong_keeps_nothing_from_being_closed(lab: Lab, text: str) -> None:
    cellwall = Command(lab)
    assert cellwall("attach", "web", "--expose", "8080:80", "--set", "network.subnet4=10.91.0.0/24").status == 0
    assert cellwall("attach", "db").status == 0
    file = lab.root / "etc/cellwall/cellwall.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    try:
        for opens in (["up"], ["attach", "new"], ["expose", "web", "8081:80"], ["reconcile"], ["run", "--", "true"]):
            assert cellwall(*opens).status == 2, opens
        for closes in (
            ["list"],
            ["status"],
            ["unexpose", "web", "8080:80"],
            ["detach", "web"],
            ["down", "--force"],
            ["status"],
            ["list"],
            ["uninstall", "--force"],
        ):
            said = cellwall(*closes)
            assert said.status == 0, (closes, said)
            assert said.err.startswith("cellwall: warning: "), closes
            assert said.err.count("\n") == 1, closes
            assert "cellwall.toml" in said.err
            assert cellwall(*closes, "--set", "network.nothing=1").status == 2, "a wrong flag is a wrong request"
    finally:
        file.unlink()
    assert not (lab.root / "run/cellwall/state.db").exists()
    assert cellwall("up").status == 0
    assert cellwall("down").status == 0


def test_an_attach_goes_by_what_is_in_force_and_says_so_where_its_caller_configured_something_else(
    cellwall: Command, lab: Lab
) -> None:
    floor = ["nft", "list", "set", "inet", "cellwall", "floor4"]
    protect = ("--set", "node.protect=151.101.0.0/16")
    assert cellwall("up", *protect).status == 0
    for argv, environ in (
        (["attach", "web"], {}),
        (["attach", "db", *protect], {}),
        (["expose", "web", "8080:80"], {"CELLWALL_NODE_PROTECT": "45.33.0.0/16"}),
        (["run", "--", "true"], {}),
        (["status"], {}),
    ):
        said = cellwall(*argv, **environ)
        assert said.status == 0, said
        assert ("others are in force" in said.err) is (protect[1] not in argv), argv
        assert "151.101.0.0/16" in lab.node.run(floor).text
    assert cellwall("up").err == ""
    assert "151.101.0.0/16" not in lab.node.run(floor).text
    assert cellwall("status").err == ""
