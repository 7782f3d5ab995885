"""Who lives in the story: two tenants, the node they share, and what there is to attack.

Owns: the servers (threads of this process whose sockets live in the hosts' namespaces) and the facts that an
attacker who is root in its container can know: addresses and MACs.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address

import msgspec

from cellwall.demo.servers import WebServer
from cellwall.lab import Host, Lab, Services

SHOP_PORT, PUBLISHED_PORT, DATABASE_PORT, SSH_PORT, ECHO_PORT = 80, 8080, 5432, 22, 7
SHOP, CUSTOMERS, WELCOME, CREDENTIALS = (
    "acme's shop",
    "umbrella's customers",
    "the Internet says hello",
    "the node's cloud credentials",
)


class Seat(msgspec.Struct, frozen=True):
    """A tenant's container on the network: where it is, and its MAC."""

    host: Host
    address4: IPv4Address
    address6: IPv6Address
    mac: int


class Town(msgspec.Struct, frozen=True):
    """The stage. `cloud` serves every address of the lab's Internet, metadata included; `office` is a private
    server behind the node's second interface."""

    lab: Lab
    acme: Host
    umbrella: Host
    shop: WebServer
    database: WebServer
    cloud: WebServer
    office: WebServer
    ssh: Services
    echo: Services


class Cast(msgspec.Struct, frozen=True):
    """The stage with its actors seated: the same for the walled node and for the plain bridge."""

    town: Town
    attacker: Seat
    victim: Seat
    gateway4: IPv4Address
    gateway_mac: int


@contextmanager
def open_town(lab: Lab) -> Iterator[Town]:
    """Sandboxes and servers; nothing is attached to anything yet."""
    acme, umbrella = lab.sandboxes(["acme", "umbrella"])
    with ExitStack() as servers:

        def web(host: Host, port: int, pages: dict[str, str]) -> WebServer:
            return servers.enter_context(WebServer(host, port, pages))

        yield Town(
            lab=lab,
            acme=acme,
            umbrella=umbrella,
            shop=web(acme, SHOP_PORT, {"/": SHOP}),
            database=web(umbrella, DATABASE_PORT, {"/customers": CUSTOMERS}),
            cloud=web(lab.internet, 80, {"/": WELCOME, "/latest/meta-data/iam": CREDENTIALS}),
            office=web(lab.infra, 80, {"/": "the payroll"}),
            ssh=lab.node.serve(tcp=[SSH_PORT]),
            echo=lab.internet.serve(udp=[ECHO_PORT]),
        )
