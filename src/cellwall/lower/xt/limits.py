"""What iptables cannot say, and what stands in for it. Data: whoever compiles, diagnoses or attacks reads it here.

What is neither lowered nor listed raises Unsupported. A clause with a listed predicate or outcome is left out, which
is right for two kinds only: clauses that accept (what is left is stricter), and denials whose substitute holds.
`NARROWER` is about what is lowered, but not to the letter; `WITHOUT` about what is missing where a feature is.
"""

import msgspec

from cellwall.compile import predicates as when
from cellwall.compile import wall as w

SUBSTITUTES: dict[type[when.Predicate | w.Outcome], str] = {
    when.KnownPort: "a port without an endpoint has no forwarding entry and floods nothing: nothing is bridged to it",
    when.TenantOverConnections: "each endpoint's own bound: a tenant of many has as many times as much",
    when.TenantFull: "the same, of open ones",
    when.Fragment: "that they wait for five seconds: they are put together before the first table, and ebtables cannot "
    "tell them, so that while a sandbox goes on sending some that never become whole, others' are dropped",
    when.Connecting: "the same as for published ports, before connection tracking has the flow",
    w.Publish: "a rule for each published port: iptables has no map from ports to destinations",
}
"""Predicates and outcomes without a form."""

_HAVE_A_FORM = (when.TenantFull("ended"), when.TenantFull("ended-clients"))
"""Some of their values, which have one."""

NARROWER: dict[str, str] = {
    "Exposed": "by endpoint, port and client, not by host port and bind address: these are the rule's that leads a new "
    "flow there, and withdrawing a port deletes its flows. Who is no client is led nowhere, and nobody is told of him",
    "OverConnections": "each rule counts for itself, so that flows to services of the node are a budget of their own, "
    "and from zero when the rules are replaced",
    "OverRate": "neighbour solicitations by source address; ARP has no limit, the bridge answers it by itself; rates "
    "beyond 100,000 a second are rounded to a millionth of a second for each",
    "OverBytes": "a bucket of one second's worth, and rates that are rounded to what a jiffy has",
    "EndedFlow": "each endpoint may end and keep as many as with nftables a tenant, "
    "by what it sends and again by what it gets. What it would not get, for its TTL or its link address, nobody "
    "counts; it is dropped for six seconds behind the first such packet of a flow",
    "BeginsAgain": "each end's packets in a flow that was reset are noted, not the SYN",
    "BegunAgain": "a SYN behind a noted packet of who opened the flow is dropped as well; of a flow that has as many "
    "such packets for a whole day one answer may pass, at one moment of it",
    "Attribute": "no flow is known by its tenant, and nothing asks",
    "Pinned": "MAC and address belong together; whose port a MAC is says the lock of the bridge port alone: without "
    "such locks the backend is refused, and a port that somebody unlocks sends as its neighbour until `reconcile`. Of "
    "ARP: asked for the gateway, anybody of the network is answered by the bridge, and nothing is learned from it. Of "
    "IPv6 where there is no hash:ip,mac: of an endpoint that asked for a MAC by `mangle` alone, after conntrack, so "
    "that others may send by its address while that is flushed",
    "NextHeader": "connection tracking has put fragments together before: a fragmented ICMPv6 message is judged whole",
    "Icmp6Type": "of frames, whatever IPv6 goes to the group that multicast listener reports go to is dropped untold, "
    "and those of the first version, which go to any group, are told of as any other frame",
    "ForgetSoon": "by a flow's first packet, before it is judged; of clients' by the ports of the node that are "
    "published, and not where the node itself asks; nor of UDP, whose every packet it would ask",
    "NotUnicast": "before translation: the node's addresses are not translated for sandboxes by iptables' own nat, "
    "and the input and forward paths judge what other tables translated by its original destination",
    "Stamp": "a packet that a sandbox sends or gets has the node's mark after the forward path, and no other any more",
    "Under": "what another table translated is denied to an endpoint whose policy limits what it opens; the clients "
    "that a policy names are in the sets and rules of published ports, so that one that only watches counts none",
    "MailTransfer": "services and exceptions are known by where another table led the flow, not by where it was sent",
    "Listed": "one set is all forms with ports",
    "subject": "what is told of denials has a budget by the address of a sandbox, which its sender cannot choose "
    "behind the pins, and none by tenant. What the pins deny has one for all sandboxes, and so has each rule of "
    "ebtables: iptables has no limit by bridge port, and one by the source of a packet is the sender's to choose where "
    "sources are forged. So who forges many has another's forged ones missing there, which are counted by their rules "
    "and of nobody; not what is denied behind the pins. Frames under another's MAC the lock of the bridge port drops, "
    "and tells nobody. While a table is flushed, what stands in for it tells nobody",
    "loose-arp-in": "a host link is down until it is a bridge port, and takes and sends no ARP of its own, so that "
    "off the bridge the node answers nobody there; IP by such a one is dropped before conntrack",
    "loose-arp-out": "the same",
}
"""Predicates, outcomes, stages and a field of clauses that are enforced in another way than nftables does, with the
difference."""

WITHOUT: dict[str, str] = {
    "frames": "frames that are neither IP nor ARP, link-layer control among them, reach the node's end of the bridge, "
    "where nobody takes them, and forged ARP makes entries of the node's neighbour table; what sandboxes send is not "
    "latched; while bridge-nf-call-iptables and -ip6tables are off, announcements reach the node's end as well, and a "
    "port that a stranger put on the bridge and the sandboxes each other. Without br_netfilter the backend is refused",
    "security": "what is denied to the node is dropped before routing and not refused at once, and a flush of `filter` "
    "takes away the forward path",
    "priority": "the node's own queue (pfifo_fast) sends what sandboxes mark as urgent before everybody else's",
    "timeouts": "closed connections stay in the connection table for as long as the node's settings say, nothing "
    "bounds how many, and one that was reset begins again beside every bound",
    "frame_log": "frames that are neither IP nor ARP, and ARP, are dropped and told of nobody",
    "packet_log": "what is denied is counted by rules, and nobody is told of it: there are no events",
    "program": "endpoints have no IPv6 where the kernel has no set of (IPv6, MAC) either, and nothing tells flows of a "
    "former endpoint that were not deleted before its address was free",
}
"""Features of `XtFeatures`: what does not hold where they are missing."""


def is_left_out(part: msgspec.Struct) -> bool:
    """Whether a clause with that predicate or outcome has no rule."""
    return type(part) in SUBSTITUTES and part not in _HAVE_A_FORM
