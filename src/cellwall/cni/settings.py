"""The settings of a call: the node's configuration, and a conflist's subnets where they are given.

A node has one wall, so a conflist chooses subnets only where the configuration leaves them at their default; where
both speak they must agree. What it chose is put on record, so that the CLI works
with the same subnets as the runtime.
"""

import msgspec

from cellwall.cni.conf import AttachConf
from cellwall.config import Paths, load_settings, paths_for, write_choice
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Address, Prefix, parse_address, parse_prefix
from cellwall.model.network import Network
from cellwall.model.settings import Settings


def settings_for(conf: AttachConf) -> Settings:
    """The node's settings with the subnets and gateways that a conflist names."""
    choice = _choice(conf)
    paths = paths_for(conf.root or None)
    if not choice:
        return load_settings(paths).settings
    # first alone: two texts that disagree may be refused together for something that neither of them is wrong in
    node = load_settings(paths, chosen={})
    for name, (field, value) in choice.items():
        configured = getattr(node.settings.network, name.removeprefix("network."))
        if node.origins[name] != "default" and configured != value:
            raise InvalidSpec(field, value, f"differs from the node's configured {name} {configured}")
    try:
        return load_settings(paths, chosen=_texts(choice)).settings
    except InvalidSpec as error:
        field, _ = choice.get(error.field, (error.field, None))
        raise InvalidSpec(field, error.value, error.reason) from error


def agrees(conf: AttachConf, network: Network) -> bool:
    """The network has the subnets and gateways that a conflist names."""
    choice = _choice(conf)
    return all(getattr(network, name.removeprefix("network.")) == value for name, (_, value) in choice.items())


def with_subnets(conf: AttachConf, in_force: Settings) -> Settings:
    """The settings in force with the subnets and gateways that a conflist leads to, and nothing else of what is
    configured for the caller."""
    wanted = settings_for(conf).network
    subnets = {name: getattr(wanted, name) for name in ("subnet4", "gateway4", "subnet6", "gateway6")}
    return msgspec.structs.replace(in_force, network=msgspec.structs.replace(in_force.network, **subnets))


def record_choice(conf: AttachConf, paths: Paths) -> None:
    """Tell the other front ends of this node what a conflist chose. Idempotent."""
    choice = _choice(conf)
    if choice:
        write_choice(paths, _texts(choice))


def _choice(conf: AttachConf) -> dict[str, tuple[str, Address | Prefix]]:
    """What is chosen: setting → (its place in the conflist, its value)."""
    written = [(f"subnets[{number}]", text, "subnet") for number, text in enumerate(conf.subnets)]
    written += [(f"gateways[{number}]", text, "gateway") for number, text in enumerate(conf.gateways)]
    choice: dict[str, tuple[str, Address | Prefix]] = {}
    for field, text, kind in written:
        value = parse_prefix(text, field) if kind == "subnet" else parse_address(text, field)
        name = f"network.{kind}{value.version}"
        if name in choice:
            raise InvalidSpec(field, text, f"is a second IPv{value.version} {kind}")
        choice[name] = (field, value)
    return choice


def _texts(choice: dict[str, tuple[str, Address | Prefix]]) -> dict[str, str]:
    return {name: str(value) for name, (_, value) in choice.items()}
