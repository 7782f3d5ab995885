"""attach, detach, expose, unexpose, list: what single sandboxes get."""

import argparse
from collections.abc import Mapping
from typing import Any, TypedDict

from cellwall.cli.invocation import Invocation, Outcome, parse_requested
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.cli.policy_files import read_policy
from cellwall.cli.render import endpoint_table, endpoint_text
from cellwall.model.addresses import parse_mac
from cellwall.model.endpoint import Endpoint, parse_binding
from cellwall.wire.documents import endpoint_document

_SPEC = "[BIND:]HOST[-LAST]:PORT[/tcp|/udp|/tcp6to4|/tcp4to6][@SOURCE,…]"
SPEC_HELP = f"publish a port: {_SPEC}; HOST may be auto; may be repeated"


class PolicyOptions(TypedDict):
    """The arguments of `Wall.attach` that say what policy an endpoint has of its own."""

    policy: Mapping[str, object] | None
    block_network: bool | None
    allow_list: list[str] | None


def register(commands: "Commands[Parser]") -> None:
    """Add the commands of this group."""
    attach = add_command(commands, "attach", "give a sandbox an interface behind the wall")
    _add_id(attach)
    attach.add_argument("--netns", metavar="PATH", help="network namespace; without it cellwall makes one")
    attach.add_argument("--mac", metavar="MAC", help="hardware address; default: derived from the lease")
    add_endpoint_options(attach)
    attach.set_defaults(act=_attach)
    claim = add_command(commands, "claim", "give a container a sandbox that stands ready, or attach it where none does")
    _add_id(claim)
    add_endpoint_options(claim)
    claim.set_defaults(act=_claim, netns=None, mac=None)
    detach = add_command(commands, "detach", "close an interface and forget it; one that is not there is no error")
    _add_id(detach)
    detach.set_defaults(act=_detach)
    for name, about, act in (
        ("expose", "publish a port of a sandbox on the node", _expose),
        ("unexpose", "withdraw a published port", _unexpose),
    ):
        parser = add_command(commands, name, about)
        _add_id(parser)
        parser.add_argument("spec", metavar="SPEC", help=_SPEC)
        parser.set_defaults(act=act)
    add_command(commands, "list", "list the attached sandboxes").set_defaults(act=_list)


def add_endpoint_options(parser: Parser) -> None:
    """What both `attach` and `run` let the caller choose."""
    parser.add_argument("--tenant", metavar="NAME", help="whose sandbox it is; default: no tenant's")
    parser.add_argument("--ip", metavar="ADDRESS", action="append", default=[], help="requested address, once a family")
    parser.add_argument("--expose", metavar="SPEC", action="append", default=[], help=SPEC_HELP)
    parser.add_argument("--policy", metavar="FILE", help="its own policy, YAML or JSON, under its tenant's; - reads it")
    parser.add_argument("--block-network", action="store_true", default=None, help="instead: it may open nothing")
    parser.add_argument("--allow-list", metavar="CIDR", action="append", help="instead: only this network; repeatable")


def policy_options(given: argparse.Namespace) -> PolicyOptions:
    """What `attach` is told of these options."""
    return {
        "policy": None if given.policy is None else read_policy(given.policy),
        "block_network": given.block_network,
        "allow_list": given.allow_list,
    }


def _add_id(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="container id")
    parser.add_argument("--ifname", metavar="NAME", default="eth0", help="interface inside the sandbox (eth0)")


def _attach(invocation: Invocation) -> Outcome:
    options = _asked(invocation.arguments)
    with invocation.wall_in_force() as wall:
        return _one(wall.attach(invocation.arguments.id, **options))


def _claim(invocation: Invocation) -> Outcome:
    options = _asked(invocation.arguments)
    with invocation.wall_in_force() as wall:
        return _one(wall.claim(invocation.arguments.id, **options))


def _asked(given: argparse.Namespace) -> dict[str, Any]:
    """What `attach` and `claim` are told, by its names."""
    address4, address6 = parse_requested(given.ip)
    mac = None if given.mac is None else parse_mac(given.mac, "--mac")
    bindings = [parse_binding(text, "--expose", auto=True) for text in given.expose]
    return {
        "netns": given.netns,
        "ifname": given.ifname,
        "tenant": given.tenant,
        "expose": bindings,
        "address4": address4,
        "address6": address6,
        "mac": mac,
        **policy_options(given),
    }


def _detach(invocation: Invocation) -> Outcome:
    given = invocation.arguments
    with invocation.wall_to_close() as wall:
        was_there = wall.detach(given.id, ifname=given.ifname)
    return Outcome({"detached": was_there}, "detached" if was_there else "was not attached")


def _expose(invocation: Invocation) -> Outcome:
    given = invocation.arguments
    binding = parse_binding(given.spec, "expose", auto=True)
    with invocation.wall_in_force() as wall:
        return _one(wall.expose(given.id, binding, ifname=given.ifname))


def _unexpose(invocation: Invocation) -> Outcome:
    given = invocation.arguments
    binding = parse_binding(given.spec, "unexpose")
    with invocation.wall_to_close() as wall:
        return _one(wall.unexpose(given.id, binding, ifname=given.ifname))


def _list(invocation: Invocation) -> Outcome:
    with invocation.wall_to_close() as wall:
        endpoints = sorted(wall.endpoints(), key=lambda endpoint: endpoint.key)
    return Outcome({"endpoints": [endpoint_document(endpoint) for endpoint in endpoints]}, endpoint_table(endpoints))


def _one(endpoint: Endpoint) -> Outcome:
    return Outcome({"endpoint": endpoint_document(endpoint)}, endpoint_text(endpoint))
