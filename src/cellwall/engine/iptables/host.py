"""The adapters that the iptables backend works with, and in which form the wall is laid through them."""

from ipaddress import IPv4Network

import msgspec

from cellwall.compile.usage import PolicyUsage
from cellwall.engine.backend import Laid
from cellwall.engine.iptables.contracts import Sets, Tables, Variant
from cellwall.engine.iptables.remnants import Glance
from cellwall.errors import Conflict
from cellwall.lower.xt.endpoints import Pins
from cellwall.lower.xt.features import XtFeatures, pin_form
from cellwall.lower.xt.sets import endpoint_sets, node_sets
from cellwall.lower.xt.tables import Family


class Form(msgspec.Struct, frozen=True):
    """In which variant a wall is laid, and what its rules could use there. On record with the wall: an attach does not
    ask the kernel again."""

    variant: Variant
    features: XtFeatures


def recorded_form(laid: Laid | None) -> Form | None:
    """The form on record; None where there is none that this program can read."""
    try:
        return None if laid is None else msgspec.json.decode(laid.details, type=Form)
    except msgspec.MsgspecError:
        return None


class Host:
    """The adapters of one network namespace. Changes of endpoints follow the form that was taken last."""

    def __init__(self, tables: Tables, sets: Sets, glance: Glance) -> None:
        self.tables = tables
        self.sets = sets
        self.glance = glance
        self.pins: Pins = {4: None, 6: None}
        self._form: Form | None = None

    @property
    def in_force(self) -> Form:
        """The form that was taken. Conflict where none was."""
        if self._form is None:
            raise Conflict("no wall in iptables is in force")
        return self._form

    @property
    def families(self) -> tuple[Family, ...]:
        """Those that the wall in force has tables of."""
        return ("ipv4", "ipv6") if self.in_force.features.ipv6 else ("ipv4",)

    def take(self, subnet4: IPv4Network, form: Form, policies: PolicyUsage) -> None:
        """Endpoints are in the sets of this form from now on, and in those of these policies."""
        self._form = form
        self.pins = {version: pin_form(version, subnet4, form.features) for version in (4, 6)}
        sets = (*endpoint_sets(subnet4, form.features, policies), *node_sets())
        self.sets.schema = {one.name: one for one in sets}
