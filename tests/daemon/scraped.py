"""What a daemon's metrics say, and sandboxes of which each packet is one that a test sent."""

from prometheus_client.parser import text_string_to_metric_families as parse_text
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.model.addresses import mac_text
from served import Plain, Served
from world import PUBLIC4, Sandbox, write_setting

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(plain: Plain) -> Series:
    """The samples of `/metrics` in the text format."""
    answer = plain.ask("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(answer.body.decode())
        for sample in family.samples
    }


def of(series: Series, name: str, **labels: str) -> float:
    """One sample; 0 where there is none."""
    return series.get((name, tuple(sorted(labels.items()))), 0.0)


def traffic(series: Series, tenant: str) -> tuple[float, float, float, float]:
    """A tenant's packets and bytes sent, then those received."""
    kinds = ("sent_packets", "sent_bytes", "received_packets", "received_bytes")
    sent = [of(series, f"cellwall_tenant_{kind}_total", tenant=tenant) for kind in kinds]
    return sent[0], sent[1], sent[2], sent[3]


def quiet(served: Served, plain: Plain, tenant: str) -> Sandbox:
    """An attached sandbox that sends nothing of itself."""
    host = served.world.host()
    body = {"container": host.name, "netns": str(host.netns), "tenant": tenant}
    assert plain.ask("POST", "/v1/endpoints", body).status == 201
    write_setting(host, "net/ipv6/conf/all/disable_ipv6", "1")
    return Sandbox(host, served.world.wall.endpoint(host.name))


def send(served: Served, box: Sandbox, count: int, *, source: str = "", target: str = PUBLIC4) -> None:
    """So many packets of 100 bytes from the sandbox."""
    gateway = mac_text(served.world.wall.settings.network.bridge_mac)
    header = Ether(src=mac_text(box.endpoint.mac), dst=gateway) / IP(src=source or box.address(4), dst=target)
    box.host.inject("eth0", [bytes(header / UDP(sport=1, dport=9) / Raw(b"x" * 58))] * count)


def detach(plain: Plain, box: Sandbox) -> None:
    """By the daemon."""
    assert plain.ask("DELETE", f"/v1/endpoints/{box.name}/eth0").status == 200
