"""What callers send: the body of each call, and the request that it makes.

A binding may be written as the command line has it (`"8080:80/udp"`) or as an endpoint's document shows it, without
what is as usual. Fields that a body does not have are refused: a misspelt one would be left out in silence.
Pure; a refusal carries the pointer of the entry (`cellwall.wire.pointers`).
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, TypeVar

import msgspec

from cellwall.audit.events import MAX_REASON
from cellwall.engine.requests import AttachRequest
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Protocol, mac_text, parse_address, parse_mac, parse_prefix
from cellwall.model.endpoint import (
    AUTO,
    MAX_BINDINGS,
    MAX_CLIENTS,
    EndpointKey,
    PortBinding,
    parse_binding,
    validate_binding,
)
from cellwall.model.identifiers import parse_container_id, parse_link_name, parse_tenant
from cellwall.model.policy_document import Written, parse_policy, policy_document
from cellwall.model.published import MAX_ENTRIES_TOGETHER, entries
from cellwall.model.reserved import DEFAULT_LEASE, LONGEST_LEASE, MAX_OF_CONTAINER
from cellwall.wire.documents import Proxy, proxied_family, proxy_text
from cellwall.wire.pointers import Refused, placed, pointer
from cellwall.wire.policies import Networks, PolicyBody, Word, body_of, entries_of, pointed, written

MAX_BATCH = 1024
"""Entries of one batch; a bridge has room for one less."""

MAX_RULES_TOGETHER = 4096
"""Of the policies in one batch, with their clients: four of the longest. Each takes 20 µs to read, and waits as an
object until the batch is attached."""


def _grammar(pattern: str, example: str) -> msgspec.Meta:
    # In the document only: the parsers of `model` judge, and a pattern here would have every client import re.
    return msgspec.Meta(extra_json_schema={"pattern": pattern, "examples": [example]})


ContainerId = Annotated[str, _grammar("^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$", "web")]
LinkName = Annotated[str, _grammar("^(?!lo$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$", "eth0")]
Tenant = Annotated[str, _grammar("^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$", "acme")]
Mac = Annotated[str, _grammar("^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$", "02:00:00:00:00:07")]
Text4 = Annotated[str, msgspec.Meta(extra_json_schema={"format": "ipv4"})]
Text6 = Annotated[str, msgspec.Meta(extra_json_schema={"format": "ipv6"})]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Spec = Annotated[
    str,
    msgspec.Meta(
        description="[BIND:]HOST[-LAST]:PORT[/tcp|/udp|/tcp6to4|/tcp4to6][@SOURCE,…]; HOST auto: any free port",
        extra_json_schema={
            "pattern": "^([0-9A-Fa-f.:\\[\\]]+(-[0-9]+)?|(.+:)?auto):[0-9]+(/(tcp|udp|tcp6to4|tcp4to6))?(@.+)?$",
            "examples": ["8080:80"],
        },
    ),
]

When = Annotated[
    str, _grammar("^([0-9]{1,5}[smhd]|[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9:]+))?)$", "2h")
]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REASON)]


A = TypeVar("A", IPv4Address, IPv6Address)


class BindingBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Host ports that lead to an endpoint. `host_port_last` null: one port; `bind` null: every address of the node;
    `sources` empty: any client. `proxy`: clients of one family are served by the server's address of the other."""

    host_port: PortNumber
    port: PortNumber
    protocol: Protocol = "tcp"
    host_port_last: PortNumber | None = None
    bind: str | None = None
    sources: Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_CLIENTS)] = ()
    proxy: Proxy | None = None


class AttachBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One sandbox to attach. `netns` null: cellwall makes a namespace. `tenant` null: the container is its own.
    `policy`: the endpoint's own, or `block_network` and `allow_list` in its place."""

    container: ContainerId
    interface: LinkName = "eth0"
    netns: str | None = None
    tenant: Tenant | None = None
    address4: Text4 | None = None
    address6: Text6 | None = None
    mac: Mac | None = None
    expose: Annotated[tuple[Spec | BindingBody, ...], msgspec.Meta(max_length=MAX_BINDINGS)] = ()
    policy: PolicyBody | None = None
    block_network: bool | None = None
    allow_list: Networks | None = None


class AttachManyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sandboxes to attach: all or none."""

    endpoints: Annotated[tuple[AttachBody, ...], msgspec.Meta(max_length=MAX_BATCH)]


class KeyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which endpoint."""

    container: ContainerId
    interface: LinkName = "eth0"


class DetachManyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Endpoints to detach."""

    endpoints: Annotated[tuple[KeyBody, ...], msgspec.Meta(max_length=MAX_BATCH)]


class ExposeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A port to publish."""

    binding: Spec | BindingBody


class ReserveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Host ports to keep for a container: `count` of them, for so many `seconds` until it is attached. `tenant` null:
    it will be no tenant's."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_OF_CONTAINER)]
    tenant: Tenant | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_LEASE)] = DEFAULT_LEASE


class DownBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`force`: detach what is attached first."""

    force: bool = False


def attach_body(request: AttachRequest) -> AttachBody:
    """The body that asks for this."""
    return AttachBody(
        container=request.container_id,
        interface=request.ifname,
        netns=request.netns,
        tenant=request.tenant,
        address4=None if request.address4 is None else str(request.address4),
        address6=None if request.address6 is None else str(request.address6),
        mac=None if request.mac is None else mac_text(request.mac),
        expose=tuple(binding_body(binding) for binding in request.bindings),
        policy=None if request.policy is None else body_of(policy_document(request.policy)),
    )


def attach_request(body: AttachBody, at: str = "") -> AttachRequest:
    """The request that a body makes; `at` is its own pointer in what was sent. Refused for the first wrong value."""
    with placed(at + "/container"):
        parse_container_id(body.container)
    with placed(at + "/interface"):
        parse_link_name(body.interface, "ifname")
    if body.tenant is not None:
        with placed(at + "/tenant"):
            parse_tenant(body.tenant)
    mac = None
    if body.mac is not None:
        with placed(at + "/mac"):
            mac = parse_mac(body.mac)
    return AttachRequest(
        container_id=body.container,
        netns=body.netns,
        ifname=body.interface,
        tenant=body.tenant,
        address4=_address(body.address4, IPv4Address, at + "/address4"),
        address6=_address(body.address6, IPv6Address, at + "/address6"),
        mac=mac,
        bindings=tuple(binding_of(entry, f"{at}/expose/{number}") for number, entry in enumerate(body.expose)),
        policy=None if (own := own_policy(body, at)) is None else own.policy,
    )


def own_policy(body: AttachBody, at: str = "") -> Written | None:
    """The policy that an attach names, in one way or the other, and where; Refused."""
    named = {"block_network": body.block_network, "allow_list": body.allow_list}
    given = {name: value for name, value in named.items() if value is not None}
    if body.policy is None and not given:
        return None
    if body.policy is not None and given:
        name = next(iter(given))
        raise Refused(f"{at}/{name}", f"/{name}", given[name], "contradicts policy, which says all of it")
    try:
        own = parse_policy(given if body.policy is None else written(body.policy))
        if own.exceptions:  # what they are is the node's to say, and a request carries a policy that says it all
            raise InvalidSpec("/exceptions", ", ".join(own.exceptions), "are for `policy` calls: an attach names none")
        return own
    except InvalidSpec as error:
        raise pointed(error, at if body.policy is None else at + "/policy") from error


def binding_body(binding: PortBinding) -> BindingBody | str:
    """The body that asks for this; one of any free port is a text."""
    if binding.host_port == AUTO:
        return spec_text(binding)
    return BindingBody(
        host_port=binding.host_port,
        port=binding.port,
        protocol=binding.protocol,
        host_port_last=None if binding.last == binding.host_port else binding.last,
        bind=None if binding.bind is None else str(binding.bind),
        sources=tuple(str(source) for source in binding.sources),
        proxy=proxy_text(binding),
    )


def spec_text(binding: PortBinding) -> str:
    """The binding as the command line has it."""
    ports, *sources = str(binding).split(" from ")
    return ports + ("@" + ",".join(sources) if sources else "")


def binding_of(entry: str | BindingBody, at: str) -> PortBinding:
    """The binding that an entry at this pointer asks for; Refused."""
    if isinstance(entry, str):
        with placed(at):
            return parse_binding(entry, auto=True)
    bind, sources = None, []
    if entry.bind is not None:
        with placed(at + "/bind"):
            bind = parse_address(entry.bind, "expose.bind")
    for number, source in enumerate(entry.sources):
        with placed(f"{at}/sources/{number}"):
            sources.append(parse_prefix(source, "expose.sources"))
    last = entry.host_port_last or 0
    binding = PortBinding(
        protocol=entry.protocol,
        host_port=entry.host_port,
        port=entry.port,
        host_port_last=0 if last == entry.host_port else last,
        bind=bind,
        sources=tuple(sources),
        proxy=proxied_family(entry.proxy),
    )
    try:
        validate_binding(binding)
    except InvalidSpec as error:
        raise Refused(f"{at}/{error.field.rpartition('.')[2]}", error.field, error.value, error.reason) from error
    return binding


def key_of(body: KeyBody, at: str = "") -> EndpointKey:
    """The key that an entry at this pointer names; Refused."""
    with placed(at + "/container"):
        parse_container_id(body.container)
    with placed(at + "/interface"):
        parse_link_name(body.interface, "ifname")
    return EndpointKey(body.container, body.interface)


class Places:
    """Where what a call asked for stands in its body, for refusals of the engine's, which name field and value."""

    def __init__(self, bodies: Sequence[AttachBody], places: Sequence[str]) -> None:
        _refuse_too_much(bodies)
        self._entries = [(body, attach_request(body, place), place) for body, place in zip(bodies, places, strict=True)]

    @property
    def requests(self) -> tuple[AttachRequest, ...]:
        """What is asked for."""
        return tuple(request for _, request, _ in self._entries)

    def of(self, error: InvalidSpec, entry: int | None = None) -> InvalidSpec:
        """The refusal with the pointer of what it means, in one entry or in any. One whose value is in none of them
        keeps no place."""
        if isinstance(error, Refused):
            return error
        entries = self._entries if entry is None else self._entries[entry : entry + 1]
        found = [each for body, request, place in entries for each in _meant(error, body, request, place)]
        if not found:
            return error
        values = [value for _, value in found]  # of one that is asked for again, the second is the wrong one
        again = [at for number, (at, value) in enumerate(found) if value in values[:number]]
        return Refused(again[0] if again else found[-1][0], error.field, error.value, error.reason)


def _refuse_too_much(bodies: Sequence[AttachBody]) -> None:
    """Before any of it is read, which takes its time, too."""
    written_out = [entry for body in bodies for entry in body.expose]
    total = sum(one.count(",") + 1 if isinstance(one, str) else max(1, len(one.sources)) for one in written_out)
    if total > MAX_ENTRIES_TOGETHER:
        raise Refused("/endpoints", "expose", str(total), f"ports and clients are more than {MAX_ENTRIES_TOGETHER}")
    total = sum(len(body.allow_list or ()) + (0 if body.policy is None else entries_of(body.policy)) for body in bodies)
    if total > MAX_RULES_TOGETHER:
        raise Refused("/endpoints", "policy", str(total), f"rules and clients are more than {MAX_RULES_TOGETHER}")


def _meant(error: InvalidSpec, body: AttachBody, request: AttachRequest, place: str) -> list[tuple[str, str]]:
    """Where in a request a refusal's field has a refusal's value, and that value."""
    shown = str(error.value)
    head, _, rest = error.field.partition(".")
    if head == "expose" and not rest:
        counts = (len(request.bindings), sum(map(entries, request.bindings)))
        return [(place + "/expose", place)] if shown in map(str, counts) else []
    if head == "expose":
        texts = [str(binding) for binding in request.bindings]
        return [(place + pointer("expose", number), text) for number, text in enumerate(texts) if text == shown]
    if head == "policy":
        own = own_policy(body, place)
        if own is None:
            return []
        within = own.located(InvalidSpec(rest, error.value, error.reason)).field
        return [(place + ("" if body.policy is None else "/policy") + within, place)]
    fields: dict[str, tuple[tuple[str, object], ...]] = {
        "container id": (("container", request.container_id), ("container", request.key)),
        "ifname": (("interface", request.ifname),),
        "tenant": (("tenant", request.tenant),),
        "netns": (("netns", request.netns),),
        "ip": (("address4", request.address4), ("address6", request.address6)),
        "mac": (("mac", None if request.mac is None else mac_text(request.mac)), ("mac", request.mac)),
    }
    said = shown.split(", ") if error.field in ("ip", "mac") else [shown]  # of a batch: those of all its requests
    named = fields.get(error.field, ())
    return [(place + pointer(name), str(value)) for name, value in named if value is not None and str(value) in said]


def _address(text: str | None, kind: type[A], at: str) -> A | None:
    if text is None:
        return None
    with placed(at):
        address = parse_address(text, "ip")
        if not isinstance(address, kind):
            raise InvalidSpec("ip", text, f"is not an {kind.__name__.removesuffix('Address')} address")
        return address
