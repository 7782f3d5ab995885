"""Leases that drain: addresses of former endpoints that the kernel may still know, and what had them.

A part of `store`'s, in its transactions.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address

from cellwall.adapters.record.database import Database
from cellwall.adapters.record.records import decode_endpoint, encode_endpoint
from cellwall.ipam import Taken
from cellwall.model.endpoint import Endpoint


class Draining:
    """The former endpoints of the journal, by the order in which they were detached."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._retired: set[int] = set()

    def add(self, endpoints: Iterable[Endpoint]) -> None:
        """Released addresses that the kernel may still know; their links are not retired yet."""
        self._db.run_each(
            "INSERT OR REPLACE INTO draining VALUES (?, ?, ?, 0)",
            [(int(endpoint.address4), endpoint.host_link, encode_endpoint(endpoint)) for endpoint in endpoints],
        )

    def all(self) -> tuple[Endpoint, ...]:
        """The former endpoints whose addresses drain."""
        return tuple(decode_endpoint(row[0]) for row in self._db.rows("SELECT body FROM draining ORDER BY rowid"))

    def addresses(self) -> Taken:
        """Only their addresses, as numbers, as they are whenever it is asked."""
        return Addresses(self._db, "draining")

    def unretired(self) -> tuple[Endpoint, ...]:
        """The former endpoints whose links nobody has retired yet."""
        rows = self._db.rows("SELECT address4, body FROM draining WHERE NOT retired")
        return tuple(decode_endpoint(row[1]) for row in rows if row[0] not in self._retired)

    def mark_retired(self, addresses: Iterable[IPv4Address]) -> None:
        """The links of these former endpoints are retired: on record with this transaction, or the next one, as to
        retire one again does no harm."""
        self._retired.update(map(int, addresses))

    def remove(self, addresses: Iterable[IPv4Address]) -> None:
        """These addresses are free."""
        self._db.run_each("DELETE FROM draining WHERE address4 = ?", [(int(address),) for address in addresses])

    def write_retired(self) -> None:
        """What was marked is on record with the transaction that this is called in."""
        if self._retired:
            rows = [(address,) for address in self._retired]
            self._db.run_each("UPDATE draining SET retired = 1 WHERE address4 = ?", rows)

    def forget_retired(self) -> None:
        """That transaction has ended."""
        self._retired.clear()


class Addresses:
    """A table's addresses. A look-up each, as a lease asks after one or two: to read a thousand costs thirty times as
    much."""

    def __init__(self, db: Database, table: str) -> None:
        self._db = db
        self._table = table

    def __contains__(self, address: object, /) -> bool:
        return self._db.row(f"SELECT 1 FROM {self._table} WHERE address4 = ?", (address,)) is not None

    def __len__(self) -> int:
        return int(self._db.row(f"SELECT count(*) FROM {self._table}")[0])
