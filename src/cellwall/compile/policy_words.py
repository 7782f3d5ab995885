"""What policies ask of a flow: the predicates of `compile.policies`."""

from typing import Literal

from cellwall.compile.predicates import Predicate
from cellwall.compile.usage import PolicyForm
from cellwall.model.policy import TierName


class Under(Predicate, frozen=True):
    """A policy of that tier is in force for the endpoint that opened the flow or, of one that "guards", that it was led
    to. The policy limits what is opened; by blocking everything, or to what it lists; it only watches; or it names the
    clients of published ports."""

    tier: TierName
    what: Literal["limits", "blocks", "lists", "watches", "guards"]
    end: Literal["source", "destination"] = "source"
    negate: bool = False


class Listed(Predicate, frozen=True):
    """The flow's destination, as it was written, is on a list of the policy of the endpoint that opened it; or, of a
    list of clients, its source on one of the endpoint that it was led to. `fresh`: the packet is that of a fresh flow,
    and says itself what its flow is."""

    form: PolicyForm
    fresh: bool = False


class MailTransfer(Predicate, frozen=True):
    """The flow is TCP to port 25, as it was written, and not to a service or an exception that the operator opened.
    `listed`: nor of an endpoint with a policy that lists mail."""

    listed: bool = False


class Fresh(Predicate, frozen=True):
    """The flow begins with this packet, as it was written, and no other packet meets its note before this one has
    passed."""


class Linked(Predicate, frozen=True):
    """Both ends of the flow are sandboxes of one tenant that lets them reach each other. Notes which on the flow."""
