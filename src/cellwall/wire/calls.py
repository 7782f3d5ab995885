"""The table of calls: what the daemon can be asked, where, with what body, and what it answers.

The daemon's routes, the clients, the OpenAPI document and the authority over callers are all made from it. Paths carry
the version: what a version promises is not taken back, and a change that a caller would notice is another version.
Pure.
"""

from typing import Literal

import msgspec

from cellwall.wire.answers import (
    DetachedAnswer,
    DetachedManyAnswer,
    DnsAnswer,
    DownAnswer,
    EndpointAnswer,
    EndpointsAnswer,
    FindingsAnswer,
    LogAnswer,
    PoliciesAnswer,
    ReleasedAnswer,
    RemovedAnswer,
    ReservationAnswer,
    ReservationsAnswer,
    TrafficAnswer,
    VersionAnswer,
)
from cellwall.wire.bodies import AttachBody, AttachManyBody, DetachManyBody, DownBody, ExposeBody, ReserveBody
from cellwall.wire.documents import ReconciledDocument, StatusDocument, UpDocument
from cellwall.wire.policies import PolicyAnswer, PolicyBody

API_VERSION = 1

METRICS_PATH = "/metrics"
"""Where Prometheus looks for what it reads; no call of the table, for its text is another specification's."""

Verb = Literal["version", "status", "list", "attach", "detach", "expose", "check", "log", "node", "policy", "metrics"]
"""What a caller may be allowed to do. `node` is what touches all tenants, `metrics` what tells of all."""


class Parameter(msgspec.Struct, frozen=True):
    """A part of a query, which must be there where it is `required`."""

    name: str
    about: str
    required: bool = True


class Call(msgspec.Struct, frozen=True):
    """One call. `path` has its parameters in braces. `body` None: none is read. `statuses`: those of success; a call
    that has two answers the same with both. `answer` None: what is answered is not a document of ours. `media`: what a
    body may say that it is, the first is usual."""

    name: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    verb: Verb
    answer: type[msgspec.Struct] | None
    about: str
    body: type[msgspec.Struct] | None = None
    query: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = (200,)
    media: tuple[str, ...] = ("application/json",)

    @property
    def body_optional(self) -> bool:
        """No body is as good as an empty one. Never where a body replaces something: one that was lost would, too."""
        replaces = self.method in ("PUT", "PATCH")
        return (
            self.body is not None
            and not replaces
            and not any(one.required for one in msgspec.structs.fields(self.body))
        )


_ENDPOINT = "/v1/endpoints/{container}/{ifname}"

VERSION = Call("version", "GET", "/v1/version", "version", VersionAnswer, "Who answers.")
STATUS = Call("status", "GET", "/v1/status", "status", StatusDocument, "Compare live with desired.")
UP = Call("up", "POST", "/v1/up", "node", UpDocument, "Rules, bridge and kernel settings as configured.")
DOWN = Call("down", "POST", "/v1/down", "node", DownAnswer, "Remove rules and bridge.", body=DownBody)
RECONCILE = Call("reconcile", "POST", "/v1/reconcile", "node", ReconciledDocument, "Repair what differs.")
DNS = Call("dns", "GET", "/v1/dns", "list", DnsAnswer, "The resolvers that sandboxes are told.")
LIST = Call("list", "GET", "/v1/endpoints", "list", EndpointsAnswer, "All attached endpoints.")
ATTACH = Call(
    "attach",
    "POST",
    "/v1/endpoints",
    "attach",
    EndpointAnswer,
    "Attach one sandbox. 200 where it was attached so already; packets pass when this is answered.",
    body=AttachBody,
    statuses=(201, 200),
)
CLAIM = Call(
    "claim",
    "POST",
    "/v1/pool/claims",
    "attach",
    EndpointAnswer,
    "Attach one container to a sandbox that stands ready, at the netns that is answered. Where none is left, or it "
    "needs what they have not, it is attached as any.",
    body=AttachBody,
    statuses=(201, 200),
)
ATTACH_MANY = Call(
    "attach-many",
    "POST",
    "/v1/endpoints/batch",
    "attach",
    EndpointsAnswer,
    "Attach all of these, in one transaction, or none.",
    body=AttachManyBody,
)
DETACH_MANY = Call(
    "detach-many",
    "POST",
    "/v1/endpoints/detach",
    "detach",
    DetachedManyAnswer,
    "Close all of these. What is not attached is no error.",
    body=DetachManyBody,
)
SHOW = Call("show", "GET", _ENDPOINT, "list", EndpointAnswer, "One attached endpoint.")
DETACH = Call("detach", "DELETE", _ENDPOINT, "detach", DetachedAnswer, "Close it. What is not attached is no error.")
FINDINGS = Call(
    "findings",
    "GET",
    _ENDPOINT + "/findings",
    "check",
    FindingsAnswer,
    "What is wrong with one endpoint, on the node and inside its sandbox.",
)
TRAFFIC = Call(
    "traffic", "GET", "/v1/traffic", "list", TrafficAnswer, "What each endpoint has sent and received by now."
)
EXPOSE = Call(
    "expose",
    "POST",
    _ENDPOINT + "/ports",
    "expose",
    EndpointAnswer,
    "Publish a port. One that is published so already is no error.",
    body=ExposeBody,
)
UNEXPOSE = Call(
    "unexpose",
    "DELETE",
    _ENDPOINT + "/ports",
    "expose",
    EndpointAnswer,
    "Withdraw a port. One that is not published is no error.",
    query=(Parameter("binding", "[BIND:]HOST[-LAST]:PORT[/tcp|/udp][@SOURCE,…]"),),
)
_RESERVED = "/v1/reservations/{container}"

RESERVATIONS = Call(
    "reservations", "GET", "/v1/reservations", "list", ReservationsAnswer, "Host ports that are kept for containers."
)
RESERVE = Call(
    "reserve",
    "PUT",
    _RESERVED,
    "expose",
    ReservationAnswer,
    "Have so many free host ports kept for a container, attached or not: those that it has are among them.",
    body=ReserveBody,
)
RELEASE = Call("release", "DELETE", _RESERVED, "expose", ReleasedAnswer, "Give back what is kept for a container.")
_TENANTS = "/v1/policies/{tenant}"
_OWN = _ENDPOINT + "/policy"
_MERGE = ("application/merge-patch+json", "application/json")

POLICIES = Call("policies", "GET", "/v1/policies", "policy", PoliciesAnswer, "Those of tenants that have one.")
SHOW_POLICY = Call("show-policy", "GET", _TENANTS, "policy", PolicyAnswer, "The policy of a tenant.")
SET_POLICY = Call(
    "set-policy",
    "PUT",
    _TENANTS,
    "policy",
    PolicyAnswer,
    "Replace the policy of a tenant, with endpoints or without. In force when it is answered, for open flows, too.",
    body=PolicyBody,
)
PATCH_POLICY = Call(
    "patch-policy",
    "PATCH",
    _TENANTS,
    "policy",
    PolicyAnswer,
    "Change what a JSON merge patch (RFC 7396) names.",
    body=PolicyBody,
    media=_MERGE,
)
REMOVE_POLICY = Call(
    "remove-policy",
    "DELETE",
    _TENANTS,
    "policy",
    RemovedAnswer,
    "The floor alone holds, and what endpoints have of their own.",
)
SHOW_OWN_POLICY = Call("show-own-policy", "GET", _OWN, "policy", PolicyAnswer, "An endpoint's own policy.")
SET_OWN_POLICY = Call(
    "set-own-policy",
    "PUT",
    _OWN,
    "policy",
    PolicyAnswer,
    "Replace an endpoint's own policy, under its tenant's. In force when it is answered, for open flows, too.",
    body=PolicyBody,
)
PATCH_OWN_POLICY = Call(
    "patch-own-policy",
    "PATCH",
    _OWN,
    "policy",
    PolicyAnswer,
    "Change what a JSON merge patch (RFC 7396) names.",
    body=PolicyBody,
    media=_MERGE,
)
REMOVE_OWN_POLICY = Call(
    "remove-own-policy", "DELETE", _OWN, "policy", RemovedAnswer, "The policy of its tenant alone holds."
)
LOG = Call(
    "log",
    "GET",
    "/v1/log",
    "log",
    LogAnswer,
    "The latest events of what sandboxes tried. Where there are more, `until` the time `reached` gives those before.",
    query=(
        Parameter("tenant", "Of this tenant.", required=False),
        Parameter("container", "Of this container.", required=False),
        Parameter("since", "From this time on, or from so long ago: 15m, 2h, 7d.", required=False),
        Parameter("until", "Before this time.", required=False),
        Parameter("reason", "Of rules whose words have this in them.", required=False),
        Parameter("limit", "So many at most.", required=False),
    ),
)
CNI = Call(
    "cni",
    "POST",
    "/v1/cni",
    "node",
    None,
    "One call of the CNI plugin: its CNI_* variables as the query, its standard input as the body, its standard output "
    "as the answer. 422 answers with the error object of the CNI specification.",
)

CALLS = (
    VERSION,
    STATUS,
    UP,
    DOWN,
    RECONCILE,
    DNS,
    LIST,
    ATTACH,
    CLAIM,
    ATTACH_MANY,
    DETACH_MANY,
    SHOW,
    DETACH,
    FINDINGS,
    TRAFFIC,
    EXPOSE,
    UNEXPOSE,
    RESERVATIONS,
    RESERVE,
    RELEASE,
    POLICIES,
    SHOW_POLICY,
    SET_POLICY,
    PATCH_POLICY,
    REMOVE_POLICY,
    SHOW_OWN_POLICY,
    SET_OWN_POLICY,
    PATCH_OWN_POLICY,
    REMOVE_OWN_POLICY,
    LOG,
    CNI,
)


def path_of(call: Call, **parts: str) -> str:
    """The path of a call with its parameters in place. They are percent-encoded, each as one segment."""
    path = call.path
    for name, part in parts.items():
        path = path.replace("{" + name + "}", quoted(part))
    return path


def quoted(text: str) -> str:
    """Percent-encoded but for what RFC 3986 2.3 leaves unreserved. A segment of dots alone would be resolved away by
    whoever normalizes paths (5.2.4), so dots are encoded where there is nothing else."""
    unreserved = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~" + (
        b"." if text.strip(".") else b""
    )
    octets = text.encode("utf-8", "surrogatepass")
    return "".join(chr(octet) if octet in unreserved else f"%{octet:02X}" for octet in octets)
