"""The settings of a call: the node's configuration, and a conflist's subnets where they are given.

A node has one wall, so a conflist chooses subnets only where the configuration leaves them at their default; where
both speak they must agree. Otherwise the CLI and the next boot would work with other subnets than the runtime does.
"""

from typing import Any

import msgspec

from cellwall.cni.conf import NetworkConf
from cellwall.config import Loaded, load_settings, paths_for
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import parse_address, parse_prefix
from cellwall.model.settings import Settings


def settings_for(conf: NetworkConf) -> Settings | None:
    """The settings of a conflist that names subnets or gateways, None for one that does not."""
    if not conf.subnets and not conf.gateways:
        return None
    loaded = load_settings(paths_for(conf.root or None))
    changes = _subnets(conf, loaded)
    for number, text in enumerate(conf.gateways):
        address = parse_address(text, f"gateways[{number}]")
        _choose(changes, loaded, f"gateway{address.version}", address, f"gateways[{number}]")
    network = msgspec.structs.replace(loaded.settings.network, **changes)
    settings = msgspec.structs.replace(loaded.settings, network=network)
    try:
        settings.validate()
    except InvalidSpec as error:
        field = {"network.sub": "subnets", "network.gat": "gateways"}.get(error.field[:11], error.field)
        raise InvalidSpec(field, error.value, error.reason) from error
    return settings


def _subnets(conf: NetworkConf, loaded: Loaded) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for number, text in enumerate(conf.subnets):
        field = f"subnets[{number}]"
        prefix = parse_prefix(text, field)
        if f"subnet{prefix.version}" in changes:
            raise InvalidSpec(field, text, f"is a second IPv{prefix.version} subnet")
        _choose(changes, loaded, f"subnet{prefix.version}", prefix, field)
        if loaded.origins[f"network.gateway{prefix.version}"] == "default":
            changes[f"gateway{prefix.version}"] = prefix.network_address + 1
    return changes


def _choose(changes: dict[str, Any], loaded: Loaded, attribute: str, value: object, field: str) -> None:
    configured = getattr(loaded.settings.network, attribute)
    if loaded.origins[f"network.{attribute}"] != "default" and configured != value:
        raise InvalidSpec(field, value, f"differs from the node's configured network.{attribute} {configured}")
    changes[attribute] = value
