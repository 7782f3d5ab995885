"""The subnets that a CNI network configuration chose for this boot, on record for every other front end.

A conflist is read by container runtimes only. Without the record, `cellwall status`, `reconcile` and `expose` would
take the node for one of other subnets than its sandboxes have, and refuse.
"""

import os
from collections.abc import Mapping

import msgspec

from cellwall.config.paths import Paths
from cellwall.errors import InvalidSpec


def read_choice(paths: Paths) -> Mapping[str, str]:
    """Settings by name, as text; none where no conflist chose any. InvalidSpec where the record is damaged."""
    path = _path(paths)
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=dict[str, str])
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except msgspec.MsgspecError as error:
        raise InvalidSpec("configuration", path, f"is not a record of settings: {error}") from error


def write_choice(paths: Paths, chosen: Mapping[str, str]) -> None:
    """Put a choice on record, whole or not at all. Idempotent."""
    if read_choice(paths) == chosen:
        return
    path = _path(paths)
    draft = f"{path}.{os.getpid()}"
    with open(draft, "wb") as file:
        file.write(msgspec.json.encode(chosen))
    os.rename(draft, path)


def _path(paths: Paths) -> str:
    return paths.in_run("conflist.json")
