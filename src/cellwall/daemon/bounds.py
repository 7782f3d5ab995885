"""How much a caller may take of the daemon: size, time and number, none of which anybody raises from outside."""

import msgspec


class Bounds(msgspec.Struct, frozen=True):
    """Octets, seconds and counts.

    `header_bytes`: of the request line, and of one header. `header_seconds`: from the first octet of a request, or the
    connection, to its last header; `body_seconds`: for the body; `answer_seconds`: for the caller to take the answer;
    `idle_seconds`: between requests; `ending_seconds`: for what was begun when the daemon ends. `connections_per_uid`
    and `connections_per_group` are for everybody but root, who is many programs; a group is one that is granted
    anything. `held_bytes`: of long bodies and answers, of a group at once. `writes` and `reads` may wait at once.
    `together`: attaches, or detaches, that are carried out in one transaction. `scrape_seconds`: for how long whoever
    asks for figures is told the same.
    """

    body_bytes: int = 1 << 20
    header_bytes: int = 8190
    header_seconds: float = 5.0
    body_seconds: float = 10.0
    answer_seconds: float = 30.0
    idle_seconds: float = 60.0
    ending_seconds: float = 10.0
    connections: int = 4096
    connections_per_uid: int = 64
    connections_per_group: int = 512
    held_bytes: int = 32 << 20
    writes: int = 2048
    reads: int = 2048
    together: int = 128
    scrape_seconds: float = 0.5


def but_for_root(most: int) -> int:
    """What others than root may have of what there is at most."""
    return most * 3 // 4
