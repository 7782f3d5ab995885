"""What msgspec's decoder complains of, without the place, which `cellwall.wire.pointers` reads.

Of a word that is none of several it says that alone; which these are is said here, as a policy in a file has it said.
"""

from typing import get_args

from cellwall.wire.pointers import decoder_pointer


def complaint_of(message: str) -> str:
    """The complaint in a message of the decoder."""
    complaint = message.partition(" - at `")[0]
    words = _words_at(decoder_pointer(message)) if complaint.startswith("Invalid enum value ") else ()
    return f"must be {', '.join(words[:-1])} or {words[-1]}" if words else complaint


def _words_at(place: str) -> tuple[str, ...]:
    """Those that may stand at a place of a body; () where nobody knows."""
    # here and not above: who is refused nothing, as a rule, loads none of it
    from cellwall.model.addresses import Protocol
    from cellwall.model.policy import Action, Mode, RuleProtocol
    from cellwall.wire.documents import Proxy

    protocol = RuleProtocol if "/rules/" in place else Protocol
    kinds = {"mode": Mode, "action": Action, "protocol": protocol, "proxy": Proxy}
    return get_args(kinds.get(place.rpartition("/")[2]))
