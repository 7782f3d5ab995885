"""Each predicate as arguments of iptables. A predicate that is not here raises Unsupported: nothing is ever left out.

What a clause is asked for is a `View`; policy versions are in the packet's mark, where `marks` computes them at the
beginning of the forward and input paths: what is asked of them here is the result.
"""

from typing import Literal

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.compile.policy_words import Fresh, Listed, MailTransfer, Under
from cellwall.compile.usage import ExposureForm
from cellwall.errors import Unsupported
from cellwall.lower.xt.features import pin_form
from cellwall.lower.xt.programs import is_usual_source
from cellwall.lower.xt.sets import ENDS, SMALLEST_PORT_BITS, policy_set, set_name
from cellwall.lower.xt.view import LIVE, View, Words
from cellwall.model.addresses import LISTENER_REPORTS
from cellwall.model.floor import GLOBAL6
from cellwall.model.policy import MAIL_PORT

_LOOPBACK = {4: "127.0.0.0/8", 6: "::1/128"}
_EXTENSIONS = ("hop-by-hop", "ipv6-opts", "ipv6-route")
_NEXT_HEADERS = {"tcp": 6, "udp": 17, "icmpv6": 58}
_ICMP6 = {
    "nd-neighbor-solicit": "neighbour-solicitation",
    "mld2-listener-report": "143",
    "mld-listener-report": "131",
    "mld-listener-done": "132",
}
_NEVER: tuple[Words, ...] = ()

BEGINNING = ("-p", "tcp", "-m", "tcp", "--tcp-flags", "FIN,SYN,RST,ACK", "SYN")
"""A SYN of who opens a flow."""
_ANSWERING = ("-p", "tcp", "-m", "tcp", "--tcp-flags", "SYN,ACK", "SYN,ACK")
KNOWN_ENDED = ("-p", "tcp", "-m", "conntrack", "--ctstate", "ESTABLISHED", "--ctexpire", f"0:{w.TIME_WAIT}")
"""A packet of a TCP flow that has ended; in whole seconds, rounded down."""


def alternatives(predicate: when.Predicate, view: View) -> tuple[Words, ...]:
    """The conjunctions that together mean a predicate; none: it never holds in this family or this table."""
    for group in (_of_packet, _of_frame, _of_flow, _of_endpoint):
        found = group(predicate, view)
        if found is not None:
            return found
    name = type(predicate).__name__
    raise Unsupported(f"no iptables form of {name}", predicate=name, backend="iptables")


def member(name: str, *sides: str, negate: bool = False) -> Words:
    """The packet is in a set, named in full."""
    return ("-m", "set", *_not(negate), "--match-set", name, ",".join(sides))


def side_of(p: when.Via, scene: w.Scene) -> Words:
    """The interface match of one side."""
    names = {"port": scene.veth_prefix + "+", "bridge": scene.bridge, "uplink": scene.uplink, "loopback": "lo"}
    return (*_not(p.negate), "-i" if p.direction == "in" else "-o", names[p.side])


def not_unicast(flag: Literal["--src-type", "--dst-type"], version: int) -> tuple[Words, ...]:
    """The routing table has an address as anything but unicast. Of IPv6 `addrtype` reads that type off the address
    itself, where the node's own is unicast as well; three types are asked of the table (net/netfilter/xt_addrtype.c,
    match_type6)."""
    other = ("-m", "addrtype", "!", flag, "UNICAST")
    if version == 4:
        return (other,)
    return (other, *(("-m", "addrtype", flag, kind) for kind in ("LOCAL", "ANYCAST", "UNREACHABLE")))


def _of_packet(predicate: when.Predicate, view: View) -> tuple[Words, ...] | None:
    match predicate:
        case when.Via():
            return (side_of(predicate, view.scene),)
        case when.IpVersion():
            return ((),) if predicate.version == view.version else _NEVER
        case when.ToSubnet():
            return (("-d", view.subnet),)
        case when.FromSubnet() | when.FlowFromSubnet():  # of a flow: asked of its first packet only
            return (("-s", view.subnet),)
        case when.ToLoopback():
            return ((*_not(predicate.negate), "-d", _LOOPBACK[view.version]),)
        case when.LocalDestination():
            return (("-m", "addrtype", "--dst-type", "LOCAL"),)
        case when.NotUnicast():
            return not_unicast("--dst-type", view.version)
        case when.NotUnicastSource():
            return not_unicast("--src-type", view.version)
        case when.Transport():
            return _transport(predicate, view)
        case when.Vouched():
            return (_vouched(predicate, view),)
        case when.GatewayPing():
            return _gateway_ping(view)
        case when.NodeService():
            return (member(set_name("services", view.version), "dst", "dst"),)
    return None


def _of_frame(predicate: when.Predicate, view: View) -> tuple[Words, ...] | None:
    """What of a frame is still to be seen in its packet."""
    match predicate:
        case when.FrameType():
            return ((),) if predicate.type == f"ipv{view.version}" else _NEVER
        case when.FrameTo(target="gateway", negate=False):
            return (("-m", "pkttype", "--pkt-type", "unicast"),)
        case when.FrameTo(target="gateway-solicited" | "group", negate=False):
            return (("-d", "ff00::/8"),) if view.version == 6 else _NEVER
        case when.FrameTo(target="listener-reports", negate=False):
            return (("-d", f"{LISTENER_REPORTS}/128"),) if view.version == 6 else _NEVER
        case when.PlainHeader():
            return (("-m", "u32", "--u32", "0>>24&0xF=5"),)
        case when.Pinned():
            return _pinned(predicate, view)
        case when.NextHeader():
            if predicate.fragment:  # put together already
                return _NEVER
            numbers = ",".join(str(_NEXT_HEADERS[name]) for name in predicate.protocols)
            return (("-m", "u32", "--u32", f"3&0xFF={numbers}"),)
        case when.Icmp6Type():
            return tuple(_icmp6(_ICMP6.get(name, name)) for name in predicate.types) if view.version == 6 else _NEVER
        case when.OnLinkHopLimit():
            return (("-m", "hl", *_not(predicate.negate), "--hl-eq", "255"),) if view.version == 6 else _NEVER
        case when.SolicitsGateway():
            return _solicits(view) if view.version == 6 else _NEVER
        case when.NeighbourSolicitation():
            solicits = (*_icmp6("neighbour-solicitation"), "-m", "hl", "--hl-eq", "255")
            return (solicits,) if view.version == 6 else _NEVER
        case when.ExtensionHeader():
            headers = tuple(("-m", "ipv6header", "--soft", "--header", name) for name in _EXTENSIONS)
            return headers if view.version == 6 else _NEVER
    return None


def _of_flow(predicate: when.Predicate, view: View) -> tuple[Words, ...] | None:
    match predicate:
        case when.Flow():
            return (("-m", "conntrack", "--ctstate", ",".join(state.upper() for state in predicate.states)),)
        case when.FlowDirection():
            return (("-m", "conntrack", "--ctdir", predicate.direction.upper()),)
        case when.Translated():
            return (("-m", "conntrack", *_not(predicate.negate), "--ctstate", "DNAT"),)
        case when.LiveFlow():
            return (("-m", "mark", *_not(predicate.negate), "--mark", view.only(LIVE)),)
        case when.OrphanFlow():
            return _NEVER  # dropped already, where versions are: `marks`
        case when.OwnError():  # live by the sender's version: the flow is the sender's
            return (("-m", "mark", "--mark", view.only(LIVE)),) if view.table != "mangle" else _NEVER
        case when.AmidConnection():
            return (("-p", "tcp", "!", "--syn", "-m", "conntrack", "--ctstate", "NEW"),)
        case when.BegunAgain():
            return _begun_again(view) if view.features.timeouts else _NEVER
        case when.Handshake():
            return (("-p", "tcp", "--tcp-flags", "SYN,RST", "SYN"),)
        case when.OpensBackwards():
            return (("-p", "tcp", "--tcp-flags", "SYN,ACK", "SYN", "-m", "conntrack", "--ctdir", "REPLY"),)
    return None


def _of_endpoint(predicate: when.Predicate, view: View) -> tuple[Words, ...] | None:
    match predicate:
        case when.FloorHit():
            return _floor(predicate, view)
        case when.Stranger():
            return (member(set_name("noclients", view.version), view.towards[0]),)
        case when.OverConnections():
            return (_connections(predicate, view),)
        case when.OverRate():
            return (_rate(predicate, view),)
        case when.TenantFull(flows="ended" | "ended-clients", negate=False):
            return (_lingering(predicate, view),) if view.features.timeouts else _NEVER
        case when.OverBytes():
            return (_bytes(predicate, view),)
        case when.Exposed():
            return _exposed(predicate, view)
        case Fresh():
            return _NEVER  # its version is read before the first list, in `mangle`, and lists change before versions
        case MailTransfer():
            return (_mail(predicate, view),)
        case Under():
            return _under(predicate, view)
        case Listed():
            return (_listed(predicate, view),)
    return None


def _transport(predicate: when.Transport, view: View) -> tuple[Words, ...]:
    names = [view.icmp if name == "icmp" else name for name in predicate.protocols]
    if not predicate.negate:
        return tuple(("-p", name) for name in names)
    if len(names) == 1:
        return (("!", "-p", names[0]),)
    raise Unsupported("a negated list of protocols is a chain", predicate="Transport", backend="iptables")


def _vouched(predicate: when.Vouched, view: View) -> Words:
    if view.table in ("filter", "security") and not predicate.negate:
        # No mark says so there: what another bridge forwards is told by the kernel itself.
        return ("-m", "physdev", "--physdev-is-bridged")
    mark = f"{view.scene.mark:#x}"
    return ("-m", "mark", *_not(predicate.negate), "--mark", f"{mark}/{mark}")


def _gateway_ping(view: View) -> tuple[Words, ...]:
    if view.version == 4:
        return (("-d", f"{view.scene.gateway4}/32", "-p", "icmp", "-m", "icmp", "--icmp-type", "echo-request"),)
    gateways = (view.scene.gateway6, view.scene.gateway_link_local)
    return tuple(("-d", f"{address}/128", *_icmp6("echo-request")) for address in gateways)


def _icmp6(kind: str) -> Words:
    return ("-p", "ipv6-icmp", "-m", "icmp6", "--icmpv6-type", kind)


def _solicits(view: View) -> tuple[Words, ...]:
    found = []
    for target in (view.scene.gateway6, view.scene.gateway_link_local):
        packed = target.packed  # of the message behind the fixed header: 8 bytes, then the target
        words = [f"{48 + at}=0x{packed[at : at + 4].hex()}" for at in range(0, 16, 4)]
        found.append((*_icmp6("neighbour-solicitation"), "-m", "u32", "--u32", "&&".join(words)))
    return tuple(found)


def _pinned(predicate: when.Pinned, view: View) -> tuple[Words, ...]:
    if predicate.claim != f"ipv{view.version}":
        return _NEVER
    if pin_form(view.version, view.scene.subnet4, view.features) in ("bitmap", "hash"):
        return (member(set_name("pin", view.version), "src", "src", negate=predicate.negate),)
    # An endpoint that asked for a MAC of its own is in a set that maps to it, which `marks.pin_chains` compares after
    # conntrack; any other has the MAC of its address.
    asked = set_name("pin", view.version)
    usual = is_usual_source(view.scene, view.version, negate=predicate.negate)
    somebody = member(set_name("version", view.version), "src", negate=predicate.negate)
    if predicate.negate:
        return somebody, (*member(asked, "src", negate=True), *usual)
    return member(asked, "src"), (*somebody, *usual)


def _floor(predicate: when.FloorHit, view: View) -> tuple[Words, ...]:
    """`original`: only what was translated, and an error that somebody on the way sent, have another destination than
    their flow; the rest is asked with `translated`."""
    if predicate.end == "original":
        return tuple(("-m", "conntrack", "--ctstate", state) for state in ("DNAT", "RELATED"))
    side = view.towards[1]
    of_flow = ("-m", "conntrack", "!", "--ctstate", "RELATED")
    closed = member(set_name("opened", view.version), side, side, negate=True)
    denied: tuple[Words, ...] = ((*member(set_name("floor", view.version), side), *closed, *of_flow),)
    if view.version == 6:
        denied = (("!", "-d" if side == "dst" else "-s", str(GLOBAL6), *closed, *of_flow), *denied)
    return denied


def _connections(predicate: when.OverConnections, view: View) -> Words:
    side = view.towards[0] if predicate.endpoint == "source" else view.towards[1]
    flag = "--connlimit-saddr" if side == "src" else "--connlimit-daddr"
    bits = "32" if view.version == 4 else "128"
    return ("-m", "connlimit", "--connlimit-above", str(predicate.limit), "--connlimit-mask", bits, flag)


def _lingering(predicate: when.TenantFull, view: View) -> Words:
    if predicate.flows == "ended":
        return member(set_name("lingering", view.version), view.towards[0])
    return member(set_name("lingeringclients", view.version), view.towards[1])


def _begun_again(view: View) -> tuple[Words, ...]:
    """An answer, or a SYN, behind a packet that kept the flow (`ended`)."""
    name = set_name("reset", view.version)
    noted = of_reset_flow("above", view.version)
    return (
        (*_ANSWERING, *member(name, *ENDS["reply"]), *noted),
        (*BEGINNING, *member(name, *ENDS["original"]), *noted),
    )


def of_reset_flow(which: Literal["upto", "above"], version: int) -> Words:
    """A packet whose ends had none before, or one, for as long as an entry of the table lasts without any: a second
    more than a flow that was reset is kept, and another until such entries are looked for."""
    lasts = str((w.CLOSE + 1) * 1000)
    table = ("--hashlimit-name", f"b9reset{version}", "--hashlimit-htable-max", "262144")
    return (
        *("-m", "hashlimit", f"--hashlimit-{which}", "1/day", "--hashlimit-burst", "1"),
        *("--hashlimit-mode", "srcip,srcport,dstip,dstport", *table, "--hashlimit-htable-expire", lasts),
    )


_RATED = {"flows": "out", "clients": "in", "sent": "s", "got": "g"}
"""What can be configured, short: a table's name has fifteen letters, seven of them the rate's."""


def _rate(predicate: when.OverRate, view: View) -> Words:
    """A table that is in use keeps its rate, whatever another rule says: one that can be configured is in its name."""
    above = ("--hashlimit-above", f"{predicate.rate}/sec", "--hashlimit-burst", str(predicate.burst))
    name = f"b9{predicate.what}{view.version}"
    if predicate.what in _RATED:
        name = f"b9{_RATED[predicate.what]}{view.version}r{predicate.rate}"
    mode = "dstip" if predicate.what in ("clients", "got") else "srcip"
    table = ("--hashlimit-mode", mode, "--hashlimit-name", name, "--hashlimit-htable-max", "65536")
    return ("-m", "hashlimit", *above, *table)


def _bytes(predicate: when.OverBytes, view: View) -> Words:
    """Without a burst a bucket is a second's worth, and a packet that is more passes when it is full
    (net/netfilter/xt_hashlimit.c, hashlimit_byte_cost): one would be another second. The rate in the table's name is
    hexadecimal, to be short."""
    mode, letter = ("srcip", "S") if predicate.way == "sent" else ("dstip", "G")
    name = f"b9{letter}{view.version}r{predicate.rate:x}"
    table = ("--hashlimit-mode", mode, "--hashlimit-name", name, "--hashlimit-htable-max", "65536")
    return ("-m", "hashlimit", "--hashlimit-above", f"{predicate.rate}b/s", *table)


def _exposed(predicate: when.Exposed, view: View) -> tuple[Words, ...]:
    """Two sets are all forms: the one that every wall has stands for them, so that no binding changes a rule."""
    if predicate.form != ExposureForm("any"):
        return _NEVER
    source, destination = view.towards
    anyone = member(set_name("exposed", view.version), destination, destination)
    return anyone, member(set_name("exposedto", view.version), destination, destination, source)


def _mail(predicate: MailTransfer, view: View) -> Words:
    source, to = view.towards
    opened = (member(set_name(name, view.version), to, to, negate=True) for name in ("opened", "services"))
    flow = ("-p", "tcp", "-m", "conntrack", "--ctorigdstport", str(MAIL_PORT))
    listed = member(set_name("mail", view.version), source, negate=True) if predicate.listed else ()
    return (*flow, *listed, *(word for words in opened for word in words))


def _under(predicate: Under, view: View) -> tuple[Words, ...]:
    """Of a flow that another table translated no set is asked for its original destination: it is as if blocked."""
    words = member(policy_set(predicate.tier, predicate.what, view.version), view.towards[0], negate=predicate.negate)
    translated: tuple[Words, ...] = (("-m", "conntrack", "--ctstate", "DNAT"),) if predicate.what == "blocks" else ()
    return (words, *translated)


def _listed(predicate: Listed, view: View) -> Words:
    """One set is all forms with ports. There is no set of (address, network) where there is no port to it, as long as
    kernels without hash:net,net are to be had a wall."""
    form = predicate.form
    if form.kind != "ports" or form.port_bits < SMALLEST_PORT_BITS:
        what = "a network of all ports" if form.kind != "ports" else "a range of more than 1,024 ports"
        raise Unsupported(f"{what} in a policy has no iptables form", predicate="Listed", backend="iptables")
    source, destination = view.towards
    return member(policy_set(form.tier, form.list, view.version), source, destination, destination)


def _not(negate: bool) -> Words:
    return ("!",) if negate else ()
