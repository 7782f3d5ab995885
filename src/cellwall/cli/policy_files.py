"""Policies in files, as commands name them."""

import os
import sys
from collections.abc import Mapping

from cellwall.errors import InvalidSpec, NoPrivilege, NotFound


def read_policy(path: str) -> Mapping[str, object]:
    """The document of a file, YAML or JSON; `-` is standard input. Errors name the file."""
    # the parser of YAML takes longer to import than most commands take
    from cellwall.config.policy_text import MAX_SIZE, parse_text

    try:
        with open(sys.stdin.fileno() if path == "-" else path, "rb", closefd=path != "-") as file:
            text = file.read(MAX_SIZE + 1)
    except FileNotFoundError as error:
        raise NotFound(f"policy: {path}: no such file") from error
    except PermissionError as error:
        raise NoPrivilege(f"policy: {path}: permission denied") from error
    except OSError as error:
        raise InvalidSpec("policy", path, f"cannot be read: {os.strerror(error.errno or 0)}") from error
    document = parse_text(text, f"policy {'standard input' if path == '-' else path}")
    if not isinstance(document, Mapping):
        raise InvalidSpec("policy", path, "is empty" if document is None else "must be a mapping")
    return document
