"""Whether a daemon answers at its socket by now: for who looks at a node, and asks nothing of it."""

import os
import socket

from cellwall.client.http import Broken, read_answer
from cellwall.client.places import reachable
from cellwall.errors import CellwallError
from cellwall.wire.calls import VERSION
from cellwall.wire.octets import request_text

_WITHIN = 2.0


def silence_of(path: str, *, within: float = _WITHIN) -> str:
    """Why nobody answers there, in a few words; "" where somebody does. Waits for `within` seconds a step."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(within)
            place, directory = reachable(path)
            try:
                connection.connect(place)
            finally:
                if directory is not None:
                    os.close(directory)
            connection.sendall(request_text(VERSION.method, VERSION.path, b""))
            read_answer(lambda: connection.recv(1 << 16))
    except Broken:
        return "whoever listens there hung up"
    except CellwallError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {within:g} s"
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
