"""What a claim gives, in tests of how it is answered."""

from ipaddress import IPv4Address

from cellwall.model.endpoint import Endpoint, EndpointKey

WEB = Endpoint(
    key=EndpointKey("web", "eth0"),
    tenant="acme",
    host_link="b9h1",
    host_index=7,
    mac=0x0200_0000_0001,
    address4=IPv4Address("192.168.0.9"),
    address6=None,
    generation=64,
    netns="/run/cellwall/netns/~1",
    netns_device=4,
    netns_inode=5,
    owns_netns=True,
)
