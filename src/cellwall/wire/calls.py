"""The table of calls: what the daemon can be asked, where, with what body, and what it answers.

The daemon's routes, the clients, the OpenAPI document and the authority over callers are all made from it. Paths carry
the version: what a version promises is not taken back, and a change that a caller would notice is another version.
Pure.
"""

from typing import Literal

import msgspec

from cellwall.wire.bodies import AttachBody, AttachManyBody, DetachManyBody, DownBody, ExposeBody
from cellwall.wire.documents import EndpointDocument, ReconciledDocument, StatusDocument, UpDocument

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


class Parameter(msgspec.Struct, frozen=True):
    """A part of a query, which must be there."""

    name: str
    about: str


class Call(msgspec.Struct, frozen=True):
    """One call. `path` has its parameters in braces. `body` None: none is read. `statuses`: those of success; a call
    that has two answers the same with both. `answer` None: what is answered is not a document of ours."""

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    verb: Verb
    access: Access
    answer: type[msgspec.Struct] | None
    about: str
    body: type[msgspec.Struct] | None = None
    query: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = (200,)

    @property
    def body_optional(self) -> bool:
        """No body is as good as an empty one."""
        return self.body is not None and all(not field.required for field in msgspec.structs.fields(self.body))


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
