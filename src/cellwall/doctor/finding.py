"""One finding: what is, what follows, and what to do."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One fact about the host that matters.

    An `error` means that the wall does not stand or can be passed; a `warning` that something works less well or that
    another program stands in the way; a `note` needs no action.
    """

    severity: Literal["error", "warning", "note"]
    subject: str
    observed: str
    consequence: str
    remedy: str
