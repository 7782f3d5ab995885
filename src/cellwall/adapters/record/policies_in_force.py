"""Policies of tenants as they are in force on this boot; as they outlive it, they are `policies`'.

A part of `store`'s, in its transactions.
"""

from collections.abc import Callable

from cellwall.adapters.record.database import Database
from cellwall.adapters.record.records import decode_policy, encode_policy
from cellwall.model.policy import PolicyRecord


class PoliciesInForce:
    """By tenant, whether or not it has endpoints. `note` is told whose is written."""

    def __init__(self, db: Database, note: Callable[[str], None]) -> None:
        self._db = db
        self._note = note

    def get(self, tenant: str) -> PolicyRecord | None:
        """What is in force for a tenant, whether or not it has endpoints."""
        row = self._db.row("SELECT generation, body FROM policies WHERE tenant = ?", (tenant,))
        return None if row is None else PolicyRecord(decode_policy(row[1]), row[0])

    def all(self) -> dict[str, PolicyRecord]:
        """Those of all tenants that have any, by name."""
        rows = self._db.rows("SELECT tenant, generation, body FROM policies ORDER BY tenant")
        return {row[0]: PolicyRecord(decode_policy(row[2]), row[1]) for row in rows}

    def sizes(self) -> dict[str, int]:
        """How many octets the policy of each tenant has on record, without a look into any."""
        return {row[0]: int(row[1]) for row in self._db.rows("SELECT tenant, length(body) FROM policies")}

    def write(self, tenant: str, known: PolicyRecord | None) -> None:
        """Insert, replace or remove; the endpoints on record are under it from now on."""
        self._note(tenant)
        if known is None:
            self._db.run("DELETE FROM policies WHERE tenant = ?", (tenant,))
        else:
            row = (tenant, known.generation, encode_policy(known.policy))
            self._db.run("INSERT OR REPLACE INTO policies VALUES (?, ?, ?)", row)
