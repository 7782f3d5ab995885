"""config check, config show: what is configured, and where it comes from."""

import os
from collections.abc import Iterator

from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.cli.render import table
from cellwall.config.keys import KEYS, SERVING_KEYS, shown
from cellwall.config.mode import Serving
from cellwall.errors import InvalidSpec


def register(commands: "Commands[Parser]") -> None:
    """Add the commands of this group."""
    config = add_command(commands, "config", "check or show the configuration")
    actions: Commands[Parser] = config.add_subparsers(metavar="ACTION", required=True, parser_class=Parser)
    add_command(actions, "check", "refuse a configuration that cannot work").set_defaults(act=_check)
    add_command(actions, "show", "every setting, its value and where that comes from").set_defaults(act=_show)


def _check(invocation: Invocation) -> Outcome:
    serving = invocation.loaded().serving
    file = invocation.paths.config_file
    found = file.exists()
    text = f"{file}: valid" if found else f"{file}: absent, the defaults hold"
    return Outcome({"file": str(file), "present": found, "valid": True}, text, warnings=tuple(_unknown_here(serving)))


def _unknown_here(serving: Serving) -> Iterator[str]:
    """What `serve` would refuse on this host, as the groups are others there than where the file may be for."""
    if not (serving.group or serving.allow):
        return
    from cellwall.daemon.http.peers import granted, group_number  # few say any of these

    for judge in (
        lambda: serving.group and group_number(serving.group, "daemon.group"),
        lambda: granted(serving.allow),
    ):
        try:
            judge()
        except InvalidSpec as error:
            yield f"{error} (on this host)"


def _show(invocation: Invocation) -> Outcome:
    loaded = invocation.loaded()
    document = {}
    rows = []
    for key in (*KEYS, *SERVING_KEYS):
        value = shown(key, loaded.settings if key in KEYS else loaded.serving)
        document[key.name] = {"value": value, "origin": loaded.origins[key.name]}
        text = "; ".join(value) if isinstance(value, list) else str(value)
        rows.append((key.name, text or "-", loaded.origins[key.name], key.about))
    held = _held_by(invocation)
    text = table(("SETTING", "VALUE", "FROM", "MEANING"), rows)
    return Outcome({"settings": document, "mechanism": held}, f"{text}\n\nthe wall stands in {held}" if held else text)


def _held_by(invocation: Invocation) -> str:
    """What `node.backend` came to on a node that is up; "" for who may not ask the node."""
    if os.geteuid() != 0 or not os.path.exists(invocation.paths.in_run("state.db")):
        return ""
    with invocation.wall_to_read() as wall:
        return wall.mechanism
