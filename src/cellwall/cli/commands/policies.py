"""policy: what tenants and single sandboxes may open, and who may come in."""

import argparse
from collections.abc import Iterable
from typing import TypedDict

from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.cli.policy_files import read_policy
from cellwall.cli.render import facts, table
from cellwall.errors import InvalidSpec, NotFound
from cellwall.model.endpoint import Endpoint
from cellwall.model.policy import OPEN, Policy, PolicyRecord
from cellwall.wire.policies import document_of, record_answer

_FILE = "YAML or JSON; - is standard input"


def register(commands: "Commands[Parser]") -> None:
    """Add the command and its actions."""
    policy = add_command(commands, "policy", "what sandboxes may open, and who may come in by their published ports")
    actions: Commands[Parser] = policy.add_subparsers(
        title="actions", metavar="ACTION", required=True, parser_class=Parser
    )
    replace = add_command(actions, "set", "replace a policy; it acts on open flows, too")
    _add_subject(replace)
    replace.add_argument("file", metavar="FILE", nargs="?", help=_FILE)
    replace.add_argument("--block-network", action="store_true", help="instead of a file: nothing may be opened")
    replace.add_argument(
        "--allow-list", metavar="CIDR", action="append", help="instead of a file: only this; repeatable"
    )
    replace.set_defaults(act=_set)
    patch = add_command(actions, "patch", "change a policy by a JSON merge patch (RFC 7396)")
    _add_subject(patch)
    patch.add_argument("file", metavar="FILE", help=_FILE)
    patch.set_defaults(act=_patch)
    for name, about, act in (
        ("show", "show a policy in force", _show),
        ("remove", "take a policy away; one that is not there is no error", _remove),
    ):
        parser = add_command(actions, name, about)
        _add_subject(parser)
        parser.set_defaults(act=act)
    add_command(actions, "list", "list the policies in force").set_defaults(act=_list)
    check = add_command(actions, "check", "say what is wrong with a file, for this node; needs no root")
    check.add_argument("file", metavar="FILE", help=_FILE)
    check.add_argument("--endpoint", action="store_true", help="as the policy of a single sandbox, not of a tenant")
    check.set_defaults(act=_check)


def _add_subject(parser: Parser) -> None:
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--tenant", metavar="NAME", default="", help="of all its sandboxes, attached or yet to be")
    whose.add_argument("--container", metavar="ID", default="", help="of one attached sandbox, under its tenant's")
    parser.add_argument("--ifname", metavar="NAME", default="eth0", help="interface inside the sandbox (eth0)")


class _Subject(TypedDict):
    tenant: str
    container: str
    ifname: str


def _subject(given: argparse.Namespace) -> _Subject:
    return {"tenant": given.tenant, "container": given.container, "ifname": given.ifname}


def _set(invocation: Invocation) -> Outcome:
    given = invocation.arguments
    document: dict[str, object] = {}
    if given.block_network:
        document["block_network"] = True
    if given.allow_list is not None:
        document["allow_list"] = given.allow_list
    if bool(given.file) == bool(document):
        raise InvalidSpec("policy", given.file or "", "is a FILE, --block-network or --allow-list: name one of them")
    policy = read_policy(given.file) if given.file else document
    with invocation.wall_to_close() as wall:
        return _one(wall.set_policy(policy, **_subject(given)))


def _patch(invocation: Invocation) -> Outcome:
    patch = read_policy(invocation.arguments.file)
    with invocation.wall_to_close() as wall:
        return _one(wall.patch_policy(patch, **_subject(invocation.arguments)))


def _show(invocation: Invocation) -> Outcome:
    given = invocation.arguments
    with invocation.wall_to_close() as wall:
        known = wall.policy(**_subject(given))
    if known is None:
        raise NotFound(f"tenant: {given.tenant}: has no policy")
    return _one(known)


def _remove(invocation: Invocation) -> Outcome:
    with invocation.wall_to_close() as wall:
        was_there = wall.remove_policy(**_subject(invocation.arguments))
    return Outcome({"removed": was_there}, "removed" if was_there else "had none")


def _list(invocation: Invocation) -> Outcome:
    with invocation.wall_to_close() as wall:
        tenants = wall.policies()
        own = [endpoint for endpoint in wall.endpoints() if endpoint.tiers.endpoint != OPEN]
    document = {
        "tenants": {tenant: record_answer(known) for tenant, known in tenants.items()},
        "endpoints": [_endpoint_document(endpoint) for endpoint in own],
    }
    rows = [("tenant", tenant, *_cells(known.policy)) for tenant, known in sorted(tenants.items())]
    rows += [("container", str(endpoint.key), *_cells(endpoint.tiers.endpoint)) for endpoint in own]
    return Outcome(document, table(("OF", "NAME", "MODE", "RULES", "CLIENTS", "LINKS", "MONITOR"), rows))


def _check(invocation: Invocation) -> Outcome:
    from cellwall.api import check_policy

    given = invocation.arguments
    settings = invocation.loaded().settings
    policy = check_policy(read_policy(given.file), settings, endpoint=given.endpoint)
    return Outcome({"policy": document_of(policy)}, "ok")


def _endpoint_document(endpoint: Endpoint) -> dict[str, object]:
    named = {"container": endpoint.key.container_id, "interface": endpoint.key.ifname}
    return {**named, "policy": document_of(endpoint.tiers.endpoint), "generation": endpoint.generation}


def _cells(policy: Policy) -> tuple[str, ...]:
    clients = "any" if policy.sources is None else str(len(policy.sources))
    return (
        policy.mode,
        str(len(policy.rules)),
        clients,
        *("yes" if on else "-" for on in (policy.links, policy.monitor)),
    )


def _one(known: PolicyRecord) -> Outcome:
    return Outcome(record_answer(known), facts(_rows(known)))


def _rows(known: PolicyRecord) -> Iterable[tuple[str, str]]:
    policy = known.policy
    yield "mode", policy.mode
    yield from (("rules", str(rule)) for rule in policy.rules)
    yield from (("clients", str(source)) for source in policy.sources or ())
    if policy.links:
        yield "links", "with sandboxes of the tenant"
    if policy.monitor:
        yield "monitor", "denies nothing, and counts what it would"
    yield "generation", str(known.generation)
