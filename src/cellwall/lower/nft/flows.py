"""Predicates over the flow of a packet, as nft matches: what connection tracking and our marks in it say."""

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.lower.nft.families import Family
from cellwall.lower.nft.forms import BOTH, NUMBERED, Forms, Lowered, either, fields, in_subnet, match, per_family
from cellwall.lower.nft.sets import BEGUN_AGAIN, FULL_SETS, PROTOCOLS, by_protocol, exposed_set
from cellwall.model.addresses import PROTOCOL_NUMBERS
from cellwall.model.floor import GLOBAL6
from cellwall.model.versions import STEM
from cellwall.ruleset.types import Compare, ConnectionsOver, Field, FieldName, ForgottenWithin, Lookup, Meter, RateOver

_STEM = Field("ct mark", STEM)
"""Whose a flow is, by whichever policy it was judged."""

_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10


def _flow(p: when.Flow, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ct state", *p.states),),)


def _flow_direction(p: when.FlowDirection, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ct direction", p.direction),),)


def _live(p: when.LiveFlow, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((Lookup(fields("ct mark"), "live", p.negate),),)


def _orphan(p: when.OrphanFlow, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    holders: dict[str, FieldName] = {
        "source": family.original_source,
        "destination": family.reply_source,
        "node-side": family.destination,
    }
    kin = Lookup((_STEM, Field(holders[p.holder])), "kin" + family.suffix, negate=True)
    return ((match("meta nfproto", family.nfproto), match("ct mark", 0, negate=True), kin),)


def _own_error(p: when.OwnError, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return ((Lookup((_STEM, Field(family.source)), "kin" + family.suffix),),)


def _floor(p: when.FloorHit, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """Over the flow's tuples: replies of an exposed port to a client in a private network are no egress. Allowing
    before denying needs no rule of its own where the exception is part of each denial."""
    original = fields(family.original_destination, "ct original protocol", "ct original proto-dst")
    translated = fields(family.reply_source, "ct reply protocol", "ct reply proto-src")
    ends = (original,) if p.end == "original" else (translated, original)
    opened = tuple(Lookup(end, "opened" + family.suffix, negate=True) for end in ends)
    target = ends[0][0]
    denied: tuple[Lowered, ...] = ((Lookup((target,), "floor" + family.suffix), *opened),)
    if family.version == 6:
        network, mask = family.prefix(GLOBAL6)
        denied = ((match(target.name, network, mask=mask, negate=True), *opened), *denied)
    return denied


def _translated(p: when.Translated, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ct status", "dnat", negate=p.negate),),)


def _exposed(p: when.Exposed, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    # By where the flow came by and by where it was led: several bindings may lead to one container port, a host port
    # may be published anew for another, and none must lend another its clients or keep the flows of a withdrawn one.
    key = fields("ct reply proto-src", "ct original proto-dst")
    if p.form.bound or p.form.kind in ("range", "source-range"):
        key = (*key, Field(family.original_destination))
    if p.form.kind == "source":
        key = (*key, Field(family.original_source, family.mask(p.form.prefixlen)))
    elif p.form.kind == "source-range":
        key = (*key, Field(family.original_source))
    address, protocol = fields(family.reply_source, "ct reply protocol")
    if not by_protocol(p.form):
        return ((Lookup((address, protocol, *key), exposed_set(p.form, family, "tcp")),),)
    return tuple(
        (match("ct reply protocol", PROTOCOL_NUMBERS[name]), Lookup((address, *key), exposed_set(p.form, family, name)))
        for name in PROTOCOLS
    )


def _families_of_exposure(p: when.Exposed) -> frozenset[int]:
    return frozenset({p.form.family}) if p.form.kind == "source" else BOTH


def _stranger(p: when.Stranger, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return ((Lookup(fields(family.original_source), "noclients" + family.suffix),),)


def _opening(*, negate: bool = False) -> Compare:
    return match("tcp flags", _SYN, mask=_FIN | _SYN | _RST | _ACK, negate=negate)


def _amid_connection(p: when.AmidConnection, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ct state", "new"), _opening(negate=True)),)


def _connecting(p: when.Connecting, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ct state", "new"), match("meta l4proto", PROTOCOL_NUMBERS["tcp"])),)


def _begins_again(p: when.BeginsAgain, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((_opening(), match("ct direction", "original"), NUMBERED),)


def _begun_again(p: when.BegunAgain, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    answer = match("tcp flags", _SYN | _ACK, mask=_SYN | _ACK)
    ends = fields(family.source, family.destination, "th sport", "th dport")
    return ((answer, Lookup(ends, BEGUN_AGAIN + family.suffix)),)


def answered_from(family: Family) -> tuple[Field, ...]:
    """The ends of a flow, as packets in reply have them."""
    return fields(family.reply_source, family.reply_destination, "ct reply proto-src", "ct reply proto-dst")


def _flow_over_rate(p: when.FlowOverRate, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return ((Meter(answered_from(family), "endedflows" + family.suffix, RateOver(p.rate, p.burst)),),)


def _opens_backwards(p: when.OpensBackwards, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("tcp flags", _SYN, mask=_SYN | _ACK), match("ct direction", "reply")),)


def _over_connections(p: when.OverConnections, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """Flows to an endpoint have a count of their own: a flood of its published port must not take its way out."""
    side, counted = (family.source, "flows") if p.endpoint == "source" else (family.destination, "clients")
    return ((Meter(fields(side), counted + family.suffix, ConnectionsOver(p.limit)),),)


def _tenant_over_connections(p: when.TenantOverConnections, scene: w.Scene) -> tuple[Lowered, ...]:
    counted = "tenantflows" if p.endpoint == "source" else "tenantclients"
    return (
        (
            NUMBERED,
            Meter(fields("ct label"), counted, ConnectionsOver(p.limit)),
        ),
    )


def _tenant_full(p: when.TenantFull, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((NUMBERED, Lookup(fields("ct label"), FULL_SETS[p.flows], p.negate)),)


def _ended(p: when.EndedFlow, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("meta l4proto", PROTOCOL_NUMBERS["tcp"]), ForgottenWithin(w.TIME_WAIT + 1)),)


def _flow_from_subnet(p: when.FlowFromSubnet, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    return in_subnet(family.original_source, scene, family)


FLOWS: Forms = {
    when.Flow: either(_flow),
    when.FlowDirection: either(_flow_direction),
    when.LiveFlow: either(_live),
    when.OrphanFlow: per_family(_orphan),
    when.OwnError: per_family(_own_error),
    when.FloorHit: per_family(_floor),
    when.Translated: either(_translated),
    when.Exposed: per_family(_exposed, _families_of_exposure),
    when.Stranger: per_family(_stranger),
    when.AmidConnection: either(_amid_connection),
    when.OpensBackwards: either(_opens_backwards),
    when.OverConnections: per_family(_over_connections),
    when.TenantOverConnections: either(_tenant_over_connections),
    when.TenantFull: either(_tenant_full),
    when.EndedFlow: either(_ended),
    when.Connecting: either(_connecting),
    when.BeginsAgain: either(_begins_again),
    when.BegunAgain: per_family(_begun_again),
    when.FlowOverRate: per_family(_flow_over_rate),
    when.FlowFromSubnet: per_family(_flow_from_subnet),
}
