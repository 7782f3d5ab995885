"""What the engine needs of the kernel, whatever holds the rules: its links, its flows, its facts, its namespaces. What
each mechanism needs is its own: `engine.nftables.contracts`, `engine.iptables.contracts`.

Few verbs, finished values: an adapter decides nothing. Every call is made in the node's network namespace by the
thread that opened the adapter; a sandbox's namespace is given as a descriptor.
"""

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from contextlib import AbstractContextManager
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

import msgspec

from cellwall.model.addresses import Prefix
from cellwall.model.addresses import Protocol as Transport
from cellwall.model.facts import NodeFacts
from cellwall.model.network import Network


class LinkPlan(msgspec.Struct, frozen=True):
    """A veth pair to make: the host end on the bridge, the peer made inside the sandbox in the same message."""

    host_link: str
    ifname: str
    mac: int
    mtu: int
    bridge_index: int


class SandboxPlan(msgspec.Struct, frozen=True):
    """What the inside of a sandbox gets. IPv6 is None where the endpoint has none; the interface then has
    disable_ipv6 set. `mac` None: it has its own from the beginning."""

    ifname: str
    address4: IPv4Address
    prefixlen4: int
    gateway4: IPv4Address
    gateway_mac: int
    address6: IPv6Address | None = None
    prefixlen6: int = 64
    gateway6: IPv6Address | None = None
    mac: int | None = None


class PortPlan(msgspec.Struct, frozen=True):
    """A bridge port to lock: its flags, its static forwarding entry and the permanent neighbours on the bridge. `shut`:
    it is to pass nothing for now, as that of a sandbox that stands ready."""

    host_index: int
    bridge_index: int
    mac: int
    address4: IPv4Address
    address6: IPv6Address | None = None
    shut: bool = False


class ObservedLink(msgspec.Struct, frozen=True):
    """A link as the kernel has it. `master` 0: none. `kind` as `ip -d link` names it ("" for hardware). `dormant` (RFC
    2863): its bridge passes nothing though it is up."""

    index: int
    name: str
    kind: str
    master: int
    mtu: int
    mac: int
    up: bool
    group: int
    alias: str
    dormant: bool = False


class ObservedSandbox(msgspec.Struct, frozen=True):
    """The interface inside a sandbox; `default_routes` are the IP versions whose default route leads by it."""

    mac: int
    up: bool
    mtu: int
    addresses: tuple[IPv4Address | IPv6Address, ...]
    default_routes: tuple[int, ...]


class Listener(msgspec.Struct, frozen=True):
    """A socket of the node that takes what anybody sends to its port. `address` unspecified: at any address of that
    family, and with `both` of the other one as well; `interface` 0: by any interface. `inode`: which socket it is."""

    address: IPv4Address | IPv6Address
    port: int
    both: bool = False
    interface: int = 0
    inode: int = 0


class PortFlows(msgspec.Struct, frozen=True):
    """Flows to host ports `first`..`last` at these addresses of the node, but for those that lead to one of `keep`."""

    protocol: Transport
    first: int
    last: int
    destinations: frozenset[IPv4Address | IPv6Address]
    keep: frozenset[IPv4Address | IPv6Address] = frozenset()


class Links(Protocol):
    """The node's links, addresses, neighbours and forwarding entries."""

    def ensure_bridge(self, network: Network, *, ipv6: bool, mtu: int) -> int:
        """Make our bridge with its gateway addresses (nodad), up; return its index. Idempotent. Raises Conflict
        where something of that name exists that we did not make."""

    def find_bridge(self, name: str) -> ObservedLink | None:
        """Our bridge, finished or as a crash left it; None where nothing has the name. Raises Conflict where something
        has it that we did not make: the one place that decides whose a bridge is."""

    def bridge_differences(self, network: Network, *, ipv6: bool, mtu: int) -> tuple[str, ...]:
        """What `ensure_bridge` would change, a few words each; changes nothing."""

    def ensure_checksum_filter(self, bridge_index: int) -> str:
        """Have the bridge drop what leaves its checksum unfinished elsewhere than where TCP or UDP has its own; "" when
        it does, else why this kernel cannot. Idempotent."""

    def checksum_differences(self, bridge_index: int) -> tuple[str, ...]:
        """What `ensure_checksum_filter` would change, a few words each; changes nothing."""

    def ensure_latch(self, bridge_index: int, mark: int, *, frames: bool = True) -> bool:
        """Let the bridge pass nothing in or out but what carries this bit of the packet mark, whatever rules there are
        (ARP of the node's own apart); without `frames`, what sandboxes send passes unasked. It goes with the bridge.
        Idempotent; False where the kernel cannot."""

    def shut_latch(self, bridge_index: int) -> None:
        """Let the bridge pass nothing at all until `ensure_latch`. Idempotent; KernelError where the kernel cannot."""

    def latch_differences(self, bridge_index: int, mark: int, *, frames: bool = True) -> tuple[str, ...]:
        """What `ensure_latch` would change, a few words each; changes nothing."""

    def delete_bridge(self, network: Network) -> None:
        """Remove our bridge; tolerates absence, refuses a foreign one with Conflict."""

    def create_pair(self, plan: LinkPlan, netns_fd: int) -> int:
        """Make the pair in one message, host end down and enslaved; return the host end's index. Raises
        AlreadyExists when the host name or the interface inside the sandbox is taken."""

    def lock_port(self, plan: PortPlan) -> None:
        """Every bridge port flag, the static FDB entry, the permanent neighbours of both families. A port that is to be
        shut has no such entry, without which its bridge passes nothing either way until `let_in`."""

    def port_differences(self, plans: Sequence[PortPlan]) -> dict[int, tuple[str, ...]]:
        """What no longer is as `lock_port` left it, a few words each, by host index; a port that is as it was is not
        in it. A handful of dumps, however many ports there are."""

    def relock_port(self, plan: PortPlan) -> None:
        """`lock_port`, and the removal of whatever else the bridge was told of the port."""

    def open_strangers(self, bridge_index: int, known: Container[int]) -> dict[int, str]:
        """The names, by index, of ports of the bridge that are none of these and not as `shut_port` leaves them."""

    def shut_port(self, bridge_index: int, index: int) -> None:
        """Nothing that is not the node's own is led to this port, and nothing from it anywhere. Tolerates absence."""

    def configure_sandbox(self, plan: SandboxPlan, netns_fd: int) -> None:
        """Addresses (nodad), permanent neighbours of the gateway, link up, routes, loopback up."""

    def open_port(self, host_index: int) -> None:
        """Host end up: the last step of an attach. Idempotent."""

    def let_in(self, bridge: str, host_index: int, host_link: str, mac: int) -> None:
        """The static FDB entry of a port that was shut; `open_port` where it or the bridge is not up and settled.
        Raises KernelError where it is gone, or has another name. Idempotent."""

    def retire(self, plan: PortPlan, host_link: str) -> None:
        """Close the port at once: down, into the reaper group; its neighbours removed. Tolerates absence."""

    def reap(self) -> int:
        """Delete the retired links, by group; return how many links were in it. May take long: background work."""

    def delete(self, link: ObservedLink) -> None:
        """Delete a link of ours and wait for it; tolerates absence. Checks name and index: an index may be reused."""

    def enslave(self, host_index: int, bridge_index: int) -> None:
        """Make a link a port of the bridge; tolerates one that is."""

    def set_mtu(self, host_index: int, host_link: str, mtu: int) -> None:
        """Resize a host end of ours; tolerates absence. Checks name and index: an index may be reused."""

    def set_inner_mtu(self, ifname: str, netns_fd: int, mtu: int) -> None:
        """Resize an interface inside a sandbox; tolerates absence."""

    def inspect_sandbox(self, ifname: str, netns_fd: int) -> ObservedSandbox | None:
        """The interface inside a sandbox, None where it is not there."""

    def observe(self) -> tuple[ObservedLink, ...]:
        """All links of the node."""

    def index_of(self, name: str) -> int:
        """The index of the link of that name, 0 where there is none. Microseconds."""

    def find(self, name: str) -> ObservedLink | None:
        """One link by name."""


class Flows(Protocol):
    """What the node's connection tracking remembers, whatever holds the rules."""

    def purge_flows(self, versions: Iterable[int]) -> None:
        """Delete the conntrack entries whose marks are of the blocks of these policy versions."""

    def end_flows(self, flows: Sequence[PortFlows]) -> None:
        """Delete their conntrack entries. A walk of the whole table for each protocol and family: 4 ms for 262,144
        buckets; more where many ports are asked for and the table is full."""

    def end_stamped_flows(self, stamp: tuple[int, int], networks: Sequence[Prefix], keep: Collection[int]) -> None:
        """Delete the conntrack entries with that (mark, mask) from or to an address in these networks, but for those
        whose mark has one of the stems to keep (`model.versions`). A walk of the whole table for each family."""


class Sysctls(Protocol):
    """Kernel settings of the calling thread's network namespace, by dotted or slashed name."""

    def read(self, name: str) -> str | None:
        """The present value, None where the kernel has no such setting."""

    def write(self, name: str, value: str) -> bool:
        """Set it; False where the kernel has no such setting or it cannot be written."""

    def load_module(self, name: str) -> bool:
        """Ask the kernel to load a module; False where that is impossible."""


class Node(Protocol):
    """The node's facts."""

    def observe(self) -> NodeFacts:
        """Read everything compile needs: one dump of addresses and of routes, the features, the resolvers."""

    def fingerprint(self) -> str:
        """A cheap digest (well under a millisecond, whatever the number of bridge ports) of addresses, on-link
        routes and default routes; a change of it means `observe` would differ."""

    def mtu(self, interface: str) -> int:
        """The MTU of one of the node's interfaces, 0 where there is none of that name. Microseconds."""

    def addresses(self) -> frozenset[IPv4Address | IPv6Address]:
        """The node's own addresses, without the loopback's and IPv6's link-local ones."""

    def is_own(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether packets to this address are for the node itself, by an address of its own or a local route."""

    def listeners(self, protocol: Transport, port: int = 0) -> tuple[Listener, ...]:
        """TCP sockets that listen, UDP sockets without a peer; `port` 0: all. A fraction of a millisecond, whatever
        the number of connections."""


class PortHolds(Protocol):
    """Host ports that nobody else takes, for as long as this process lives. `lasting`: it is the one that holds all
    that is on record, and somebody is told of it."""

    lasting: bool

    @property
    def most(self) -> int:
        """How many there may be: of one that is `lasting` no more than leave it descriptors for all else."""

    def attend(self, keep: Callable[[int, Sequence[int]], None], forget: Callable[[int], None]) -> None:
        """Tell of every port that is held from now on, with its sockets, and of every one that is let go."""

    def hold(self, port: int, given: Sequence[int] = ()) -> int | None:
        """Hold it, of TCP and UDP, at every address; the inode of its UDP socket, None where somebody else has it.
        Idempotent. `given`: descriptors of sockets that a process before this one held it by."""

    def holds(self, port: int) -> bool:
        """Whether this process holds it."""

    def release_others(self, ports: Container[int]) -> None:
        """Let go of all but these."""

    def own_socket(self, port: int) -> int | None:
        """A duplicate, the caller's to close, of the TCP socket that holds it; None where it is not held."""

    def vacant(self, port: int) -> bool:
        """Whether nobody has it."""

    def release(self, port: int) -> None:
        """Let it go. Idempotent."""


class Namespace(msgspec.Struct, frozen=True):
    """A namespace that is open: `path` is absolute, and (device, inode) is its identity for as long."""

    path: str
    fd: int
    device: int
    inode: int


class Namespaces(Protocol):
    """Network namespaces of sandboxes."""

    def opened(self, path: str, *, asked: bool = False) -> AbstractContextManager[Namespace]:
        """The namespace at `path`, held open for the length of the block. Raises NotFound, or InvalidSpec for what is
        none and for the node's own; where others are served, also for a symbolic link that was `asked` for."""

    def attached(self, path: str, identity: tuple[int, int]) -> AbstractContextManager[Namespace]:
        """`opened`, for one that was attached as `path`, with that (device, inode), and may be another one by now. A
        path in /proc is a process', which may have ended, and by its files leads nowhere where others are served: then
        the namespace is opened if any process is in it."""

    def shares_users(self, namespace: Namespace) -> bool:
        """It belongs to the user namespace that this process is in, or to one around it: whoever has a capability
        inside has it on the node."""

    def made_by(self, namespace: Namespace, user: int) -> bool:
        """It belongs to a user namespace that this user, by number, made, or to one inside such a one."""

    def identity_of(self, path: str) -> tuple[int, int] | None:
        """(device, inode) of what is at `path` now; None where nothing is."""

    def identity_of_own(self, path: str) -> tuple[int, int] | None:
        """`identity_of` for a path that `create` made, whose directories are nobody else's: in a twentieth of the
        time, as nobody can have led it elsewhere."""

    def create(self, path: str) -> None:
        """Make a new namespace, kept alive by a mount at `path`. Raises AlreadyExists."""

    def remove(self, path: str) -> None:
        """Unmount and unlink; the kernel takes its links with it. Tolerates absence."""

    def kept(self, directory: str) -> list[str]:
        """The paths of everything that `create` left in a directory, half made or whole; none where it is missing."""
