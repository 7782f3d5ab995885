"""The table of calls: what the daemon can be asked, where, with what body, and what it answers.

The daemon's routes, the clients, the OpenAPI document and the authority over callers are all made from it. Paths carry
the version: what a version promises is not taken back, and a change that a caller would notice is another version.
Pure.
"""

from typing import Literal

import msgspec

from cellwall.wire.bodies import AttachBody, AttachManyBody, DetachManyBody, DownBody, ExposeBody
from cellwall.wire.documents import EndpointDocument, ReconciledDocument, StatusDocument, UpDocument
from cellwall.wire.policies import PolicyAnswer, PolicyBody

API_VERSION = 1

Verb = Literal["version", "status", "list", "attach", "detach", "expose", "check", "node", "policy"]
"""What a caller may be allowed to do. `node` is what touches all tenants."""

Access = Literal["reads", "looks", "writes"]
"""`reads`: of the record alone, beside whatever is written. `looks`: compares the kernel with the record, in turn with
what is written, and changes nothing. `writes`: one after the other."""


class VersionAnswer(msgspec.Struct, frozen=True):
    """`version` of the program, `api` the number in every path."""

    version: str
    api: int


class EndpointAnswer(msgspec.Struct, frozen=True):
    """One endpoint."""

    endpoint: EndpointDocument


class EndpointsAnswer(msgspec.Struct, frozen=True):
    """Endpoints; of a batch in the order of its entries."""

    endpoints: tuple[EndpointDocument, ...]


class DetachedAnswer(msgspec.Struct, frozen=True):
    """Whether there was one."""

    detached: bool


class DetachedManyAnswer(msgspec.Struct, frozen=True):
    """How many there were."""

    detached: int


class DownAnswer(msgspec.Struct, frozen=True):
    """The node has no wall any more."""

    up: bool = False


class DnsAnswer(msgspec.Struct, frozen=True):
    """The resolvers that sandboxes are told."""

    dns: tuple[str, ...]


class FindingsAnswer(msgspec.Struct, frozen=True):
    """What is wrong with an endpoint, a line each."""

    findings: tuple[str, ...]


class PoliciesAnswer(msgspec.Struct, frozen=True):
    """The policies of tenants, by tenant."""

    policies: dict[str, PolicyAnswer]


class RemovedAnswer(msgspec.Struct, frozen=True):
    """Whether there was one."""

    removed: bool


class Parameter(msgspec.Struct, frozen=True):
    """A part of a query, which must be there."""

    name: str
    about: str


class Call(msgspec.Struct, frozen=True):
    """One call. `path` has its parameters in braces. `body` None: none is read. `statuses`: those of success; a call
    that has two answers the same with both. `answer` None: what is answered is not a document of ours. `media`: what a
    body may say that it is, the first is usual."""

    name: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    verb: Verb
    access: Access
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

VERSION = Call("version", "GET", "/v1/version", "version", "reads", VersionAnswer, "Who answers.")
STATUS = Call("status", "GET", "/v1/status", "status", "looks", StatusDocument, "Compare live with desired.")
UP = Call("up", "POST", "/v1/up", "node", "writes", UpDocument, "Rules, bridge and kernel settings as configured.")
DOWN = Call("down", "POST", "/v1/down", "node", "writes", DownAnswer, "Remove rules and bridge.", body=DownBody)
RECONCILE = Call("reconcile", "POST", "/v1/reconcile", "node", "writes", ReconciledDocument, "Repair what differs.")
DNS = Call("dns", "GET", "/v1/dns", "list", "looks", DnsAnswer, "The resolvers that sandboxes are told.")
LIST = Call("list", "GET", "/v1/endpoints", "list", "reads", EndpointsAnswer, "All attached endpoints.")
ATTACH = Call(
    "attach",
    "POST",
    "/v1/endpoints",
    "attach",
    "writes",
    EndpointAnswer,
    "Attach one sandbox. 200 where it was attached so already; packets pass when this is answered.",
    body=AttachBody,
    statuses=(201, 200),
)
ATTACH_MANY = Call(
    "attach-many",
    "POST",
    "/v1/endpoints/batch",
    "attach",
    "writes",
    EndpointsAnswer,
    "Attach all of these, in one transaction, or none.",
    body=AttachManyBody,
)
DETACH_MANY = Call(
    "detach-many",
    "POST",
    "/v1/endpoints/detach",
    "detach",
    "writes",
    DetachedManyAnswer,
    "Close all of these. What is not attached is no error.",
    body=DetachManyBody,
)
SHOW = Call("show", "GET", _ENDPOINT, "list", "reads", EndpointAnswer, "One attached endpoint.")
DETACH = Call(
    "detach", "DELETE", _ENDPOINT, "detach", "writes", DetachedAnswer, "Close it. What is not attached is no error."
)
FINDINGS = Call(
    "findings",
    "GET",
    _ENDPOINT + "/findings",
    "check",
    "looks",
    FindingsAnswer,
    "What is wrong with one endpoint, on the node and inside its sandbox.",
)
EXPOSE = Call(
    "expose",
    "POST",
    _ENDPOINT + "/ports",
    "expose",
    "writes",
    EndpointAnswer,
    "Publish a port. One that is published so already is no error.",
    body=ExposeBody,
)
UNEXPOSE = Call(
    "unexpose",
    "DELETE",
    _ENDPOINT + "/ports",
    "expose",
    "writes",
    EndpointAnswer,
    "Withdraw a port. One that is not published is no error.",
    query=(Parameter("binding", "[BIND:]HOST[-LAST]:PORT[/tcp|/udp][@SOURCE,…]"),),
)
_TENANTS = "/v1/policies/{tenant}"
_OWN = _ENDPOINT + "/policy"
_MERGE = ("application/merge-patch+json", "application/json")

POLICIES = Call("policies", "GET", "/v1/policies", "policy", "reads", PoliciesAnswer, "Those of tenants that have one.")
SHOW_POLICY = Call("show-policy", "GET", _TENANTS, "policy", "reads", PolicyAnswer, "The policy of a tenant.")
SET_POLICY = Call(
    "set-policy",
    "PUT",
    _TENANTS,
    "policy",
    "writes",
    PolicyAnswer,
    "Replace the policy of a tenant, with endpoints or without. In force when it is answered, for open flows, too.",
    body=PolicyBody,
)
PATCH_POLICY = Call(
    "patch-policy",
    "PATCH",
    _TENANTS,
    "policy",
    "writes",
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
    "writes",
    RemovedAnswer,
    "The floor alone holds, and what endpoints have of their own.",
)
SHOW_OWN_POLICY = Call("show-own-policy", "GET", _OWN, "policy", "reads", PolicyAnswer, "An endpoint's own policy.")
SET_OWN_POLICY = Call(
    "set-own-policy",
    "PUT",
    _OWN,
    "policy",
    "writes",
    PolicyAnswer,
    "Replace an endpoint's own policy, under its tenant's. In force when it is answered, for open flows, too.",
    body=PolicyBody,
)
PATCH_OWN_POLICY = Call(
    "patch-own-policy",
    "PATCH",
    _OWN,
    "policy",
    "writes",
    PolicyAnswer,
    "Change what a JSON merge patch (RFC 7396) names.",
    body=PolicyBody,
    media=_MERGE,
)
REMOVE_OWN_POLICY = Call(
    "remove-own-policy", "DELETE", _OWN, "policy", "writes", RemovedAnswer, "The policy of its tenant alone holds."
)
CNI = Call(
    "cni",
    "POST",
    "/v1/cni",
    "node",
    "writes",
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
    ATTACH_MANY,
    DETACH_MANY,
    SHOW,
    DETACH,
    FINDINGS,
    EXPOSE,
    UNEXPOSE,
    POLICIES,
    SHOW_POLICY,
    SET_POLICY,
    PATCH_POLICY,
    REMOVE_POLICY,
    SHOW_OWN_POLICY,
    SET_OWN_POLICY,
    PATCH_OWN_POLICY,
    REMOVE_OWN_POLICY,
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
