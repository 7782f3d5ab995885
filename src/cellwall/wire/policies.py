"""Policies over the socket: as they are asked for, and as they are in force.

What a policy may say is judged by `cellwall.model.policy_document`; here are the shapes, for who reads the OpenAPI
document, and the way between. Pure.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from cellwall.errors import InvalidSpec
from cellwall.model.policy import NO_TIERS, Action, Mode, Policy, PolicyRecord, RuleProtocol, Tiers
from cellwall.model.policy_check import MAX_RULES, MAX_SOURCES
from cellwall.model.policy_document import VERSION, parse_policy, policy_document
from cellwall.wire.complaints import complaint_of
from cellwall.wire.pointers import Refused, decoder_pointer, standing_at

_LONGEST_WORD = 256

Word = Annotated[str, msgspec.Meta(max_length=_LONGEST_WORD)]
"""No network, range of ports or name is longer. Lengths are bounded here, before anything is made of a body: what waits
is as large as what was sent, some times over, and reading a policy takes its time."""
Rules = Annotated[tuple["RuleDocument", ...], msgspec.Meta(max_length=MAX_RULES)]
Networks = Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_RULES)]
Clients = Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_SOURCES)]


class RuleDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Destinations of a sandbox. `ports`: a port, a range such as "8000-8100", null: all."""

    action: Action
    prefix: Word
    protocol: RuleProtocol = "any"
    ports: int | Word | None = None


class PolicyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A policy as it is asked for. Everything may be left out. `exceptions`: openings of the node by their names, which
    are allowances of what these are when the policy is set. The last four are other platforms' names for `mode`,
    `rules` and `sources`, and stand in their place. In a merge patch null takes a member away."""

    version: int | UnsetType | None = UNSET
    mode: Mode | UnsetType | None = UNSET
    rules: Rules | UnsetType | None = UNSET
    sources: Clients | UnsetType | None = UNSET
    links: bool | UnsetType | None = UNSET
    monitor: bool | UnsetType | None = UNSET
    exceptions: Networks | UnsetType | None = UNSET
    block_network: bool | UnsetType | None = UNSET
    allow_list: Networks | UnsetType | None = UNSET
    outbound_cidr_allowlist: Networks | UnsetType | None = UNSET
    inbound_cidr_allowlist: Clients | UnsetType | None = UNSET


class PolicyDocument(msgspec.Struct, frozen=True):
    """A policy in force: what a sandbox may open, and who may come in by what it publishes."""

    mode: Mode
    rules: tuple[RuleDocument, ...]
    sources: tuple[str, ...] | None
    links: bool
    monitor: bool
    version: int = VERSION


class PolicyAnswer(msgspec.Struct, frozen=True):
    """A policy, and the number of the change that made it so."""

    policy: PolicyDocument
    generation: int


class TiersDocument(msgspec.Struct, frozen=True):
    """The policies that an endpoint is under: a packet needs both. `number`: of a tenant that links its sandboxes."""

    tenant: PolicyDocument
    endpoint: PolicyDocument
    number: int


def written(body: PolicyBody) -> dict[str, Any]:
    """The document that a body is, as its caller wrote it."""
    document: dict[str, Any] = msgspec.to_builtins(body)
    return document


def entries_of(body: PolicyBody) -> int:
    """How many rules and clients a body lists."""
    lists = (
        body.rules,
        body.sources,
        body.exceptions,
        body.allow_list,
        body.outbound_cidr_allowlist,
        body.inbound_cidr_allowlist,
    )
    return sum(len(one) for one in lists if isinstance(one, tuple))


def body_of(document: object) -> PolicyBody:
    """The body of a document; Refused where it has another shape, as the daemon would refuse it."""
    try:
        return msgspec.convert(document, PolicyBody)
    except msgspec.ValidationError as error:
        place = decoder_pointer(str(error))
        found = standing_at(document, place)
        raise Refused(place, place or "/", "" if found is None else found, complaint_of(str(error))) from error


def pointed(error: InvalidSpec, at: str = "") -> InvalidSpec:
    """A refusal whose field is a pointer into a policy's document, with that as its place; the document is at `at`."""
    if isinstance(error, Refused) or not error.field.startswith("/"):
        return error
    return Refused(at + error.field.rstrip("/"), error.field, error.value, error.reason)


def document_of(policy: Policy) -> PolicyDocument:
    """The document of a policy."""
    return msgspec.convert(policy_document(policy), PolicyDocument)


def policy_of(document: PolicyDocument) -> Policy:
    """The policy that a document tells of."""
    return parse_policy(msgspec.to_builtins(document)).policy


def record_answer(record: PolicyRecord) -> PolicyAnswer:
    """The answer that tells of a policy."""
    return PolicyAnswer(document_of(record.policy), record.generation)


def record_of(answer: PolicyAnswer) -> PolicyRecord:
    """What an answer tells."""
    return PolicyRecord(policy_of(answer.policy), answer.generation)


def tiers_document(tiers: Tiers) -> TiersDocument | None:
    """The document of what an endpoint is under; None where that is the floor alone."""
    if tiers == NO_TIERS:
        return None
    return TiersDocument(document_of(tiers.tenant), document_of(tiers.endpoint), tiers.number)


def tiers_of(document: TiersDocument | None) -> Tiers:
    """What a document tells that an endpoint is under."""
    if document is None:
        return NO_TIERS
    return Tiers(policy_of(document.tenant), policy_of(document.endpoint), document.number)
