"""What is denied is counted by why and by whose it was, once each, whatever becomes of the rules that counted it."""

from collections.abc import Iterator

import pytest

from cellwall.attack.frames import frame, packet
from cellwall.attack.unfinished import Unfinished, send_unfinished
from cellwall.daemon.bounds import Bounds
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4
from cellwall.model.addresses import mac_text
from cellwall.names import TABLE
from daemon.scraped import detach, of, quiet, scrape, send
from served import Plain, Served, open_served
from world import PUBLIC4, about_nftables, in_iptables

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A daemon whose figures are never older than the question."""
    with open_served(bounds=Bounds(scrape_seconds=0.0)) as daemon:
        yield daemon


def test_denials_are_counted_by_reason(served: Served, plain: Plain) -> None:
    about_nftables("what rules counted")
    box = quiet(served, plain, "acme")
    labels = {"reason": "spoofed IPv4 source or options", "outcome": "dropped"}
    before = scrape(plain)
    send(served, box, 25, source="1.2.3.4")
    after = scrape(plain)
    name = "cellwall_denied_packets_total"
    assert of(after, name, **labels) - of(before, name, **labels) == 25
    detach(plain, box)


def test_denials_are_counted_by_tenant_also_what_nobody_looked_at(served: Served, plain: Plain) -> None:
    about_nftables("what rules counted")
    name = "cellwall_tenant_denied_packets_total"
    box = quiet(served, plain, "acme")
    before = of(scrape(plain), name, tenant="acme")
    send(served, box, 25, source="1.2.3.4")
    assert of(scrape(plain), name, tenant="acme") == before + 25
    send(served, box, 5, source="1.2.3.4")
    detach(plain, box)
    assert of(scrape(plain), name, tenant="acme") == before + 30


def test_what_is_denied_to_a_sandbox_is_counted_of_its_tenant_as_well(served: Served, plain: Plain) -> None:
    """As of somebody who has a route to it, by the node."""
    about_nftables("what rules counted")
    name, lan = "cellwall_tenant_denied_packets_total", served.world.lab.lan
    box = quiet(served, plain, "acme")
    before = of(scrape(plain), name, tenant="acme")
    lan.run(["ip", "route", "add", box.address(4), "via", NODE4])
    for _ in range(3):
        connect(lan, box.address(4), 9, udp=True, payload=b"denied", timeout=0.1)
    assert of(scrape(plain), name, tenant="acme") == before + 3
    detach(plain, box)


def test_what_rules_forget_of_who_is_denied_nothing_more_is_counted_once(served: Served, plain: Plain) -> None:
    """Each endpoint has counts of its own for frames and for packets, and each of them ends by itself."""
    about_nftables("what rules counted")
    name = "cellwall_tenant_denied_packets_total"
    box = quiet(served, plain, "acme")
    before = of(scrape(plain), name, tenant="acme")
    send(served, box, 2, source="1.2.3.4")
    send(served, box, 25, target="10.0.0.5")
    assert of(scrape(plain), name, tenant="acme") == before + 27
    forget = ["nft", "delete", "element", "bridge", TABLE, "deniedports", f"{{ {box.endpoint.host_index} }}"]
    served.world.lab.node.run(forget)  # as after its time
    assert of(scrape(plain), name, tenant="acme") == before + 27
    send(served, box, 3, source="1.2.3.4")
    assert of(scrape(plain), name, tenant="acme") == before + 30
    detach(plain, box)
    assert of(scrape(plain), name, tenant="acme") == before + 30


def test_denials_that_nobody_looked_at_are_kept_where_the_daemon_lays_rules_anew(served: Served, plain: Plain) -> None:
    about_nftables("what rules counted")
    box = quiet(served, plain, "acme")
    labels = {"reason": "spoofed IPv4 source or options", "outcome": "dropped"}
    denied, of_tenant = "cellwall_denied_packets_total", "cellwall_tenant_denied_packets_total"
    before = scrape(plain)
    handles = rule_handles(served)
    send(served, box, 25, source="1.2.3.4")
    new_form = {"binding": "7000-7010:7000@198.51.100.0/27"}
    assert plain.ask("POST", f"/v1/endpoints/{box.name}/eth0/ports", new_form).status == 200
    assert not handles & rule_handles(served), "all rules are others by now"
    send(served, box, 5, source="1.2.3.4")
    after = scrape(plain)
    assert of(after, denied, **labels) - of(before, denied, **labels) == 30
    assert of(after, of_tenant, tenant="acme") - of(before, of_tenant, tenant="acme") == 30
    detach(plain, box)


def rule_handles(served: Served) -> set[str]:
    """Where each rule of ours that counts is."""
    return {rule.rule for rule in served.world.wall.meters().rules()}


def test_what_the_bridge_s_classifiers_drop_is_counted(served: Served, plain: Plain) -> None:
    """Behind no rule: a checksum that the card is to write into the destination's port."""
    name = "cellwall_classifiers_dropped_packets_total"
    box = quiet(served, plain, "acme")
    before = of(scrape(plain), name)
    macs = mac_text(box.endpoint.mac), mac_text(served.world.wall.settings.network.bridge_mac)
    body = frame(*macs, packet(box.address(4), PUBLIC4, "udp", bytes(40)))
    send_unfinished(box.host, "eth0", [Unfinished(body, 20, 2)] * 7)
    send_unfinished(box.host, "eth0", [Unfinished(body, 20, 6)])
    after = scrape(plain)
    assert (name, ()) in after
    assert of(after, name) == before + 7
    handles = rule_handles(served)
    new_form = {"binding": "7100:7100@198.51.100.64/26"}
    assert plain.ask("POST", f"/v1/endpoints/{box.name}/eth0/ports", new_form).status == 200
    assert in_iptables() or not handles & rule_handles(served), "all rules are others by now"
    assert of(scrape(plain), name) == before + 7
    detach(plain, box)


def test_denials_go_on_over_rules_that_are_laid_anew(served: Served, plain: Plain) -> None:
    about_nftables("what rules counted")
    box = quiet(served, plain, "acme")
    labels = {"reason": "spoofed IPv4 source or options", "outcome": "dropped"}
    name = "cellwall_denied_packets_total"
    send(served, box, 25, source="1.2.3.4")
    before = of(scrape(plain), name, **labels)
    served.world.lab.node.run(["nft", "flush", "ruleset"])
    assert plain.ask("POST", "/v1/reconcile").status == 200
    assert of(scrape(plain), name, **labels) == before
    send(served, box, 5, source="1.2.3.4")
    assert of(scrape(plain), name, **labels) == before + 5
    detach(plain, box)
