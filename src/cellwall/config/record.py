"""The settings in force, as the node's journal keeps them: the text of a configuration that says every key.

Kept as values, and not as a digest: whoever attaches or closes works with them, whatever the file, its own environment
or its flags say by now.
"""

from collections.abc import Callable

import msgspec

from cellwall.config.keys import KEYS, shown
from cellwall.config.load import assemble
from cellwall.errors import InvalidSpec
from cellwall.model.settings import Settings

OTHERS_IN_FORCE = "settings: others are in force than are configured; `up` would bring these into force"

_KEYS = {key.name: key for key in KEYS}


def record_settings(settings: Settings) -> str:
    """Equal settings, equal texts."""
    return msgspec.json.encode({key.name: shown(key, settings) for key in KEYS}).decode()


def recorded_settings(text: str) -> Settings | None:
    """What `record_settings` wrote; None where another version of the program wrote what this one cannot read."""
    try:
        values = msgspec.json.decode(text, type=dict[str, object])
        return assemble({name: _KEYS[name].typed(value) for name, value in values.items()})
    except (msgspec.MsgspecError, KeyError, InvalidSpec):
        return None


def unlike_configured(read: Callable[[], Settings], in_force: str | None) -> tuple[str, ...]:
    """A warning where an `up` would bring other settings into force than are on record, or would be refused for what is
    configured; `in_force` None: the node is not up."""
    try:
        configured = record_settings(read())
    except InvalidSpec as error:
        return (str(error),)
    return () if in_force in (None, configured) else (OTHERS_IN_FORCE,)
