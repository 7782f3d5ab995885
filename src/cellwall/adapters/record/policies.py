"""The policies of tenants as they outlive a boot: one SQLite file in the state directory.

What is in force is the journal's, and changes with the endpoints in one transaction there; here it is kept for the next
boot. A file of a newer schema is refused. Opened when it is first read or written: most operations do neither.
"""

import errno
import os
from collections.abc import Mapping

from cellwall.adapters.record.database import Database
from cellwall.adapters.record.records import decode_policy, encode_policy
from cellwall.errors import Conflict, InvalidSpec, KernelError
from cellwall.model.policy import PolicyRecord

_SCHEMA_VERSION = 1


class KeptPolicies:
    """`policies.db` below a directory; used by one thread at a time, under the writer lock."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, "policies.db")
        self._opened: Database | None = None

    def read(self) -> tuple[dict[str, PolicyRecord], int]:
        """See `TenantPolicies.read`. A file that is missing is not made."""
        if self._opened is None and not os.path.exists(self._path):
            return {}, 0
        rows = self._db.rows("SELECT tenant, generation, body FROM policies ORDER BY tenant")
        try:
            policies = {row[0]: PolicyRecord(decode_policy(row[2]), row[1]) for row in rows}
        except (InvalidSpec, ValueError) as error:
            raise Conflict(f"{self._path}: is damaged: {error}") from error
        return policies, int(self._db.row("SELECT latest FROM numbers")[0])

    def write(self, policies: Mapping[str, PolicyRecord | None], latest: int) -> None:
        """See `TenantPolicies.write`."""
        with self._db.transaction():
            for tenant, kept in policies.items():
                if kept is None:
                    self._db.run("DELETE FROM policies WHERE tenant = ?", (tenant,))
                else:
                    row = (tenant, kept.generation, encode_policy(kept.policy))
                    self._db.run("INSERT OR REPLACE INTO policies VALUES (?, ?, ?)", row)
            self._db.run("UPDATE numbers SET latest = max(latest, ?)", (latest,))

    def close(self) -> None:
        """Idempotent."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _db(self) -> Database:
        if self._opened is None:
            try:
                os.makedirs(self._directory, exist_ok=True, mode=0o750)
            except OSError as error:
                raise KernelError(error.errno or errno.EIO, self._path) from error
            database = Database(self._path)
            try:
                _prepare(database)
            except BaseException:
                database.close()
                raise
            self._opened = database
        return self._opened


def _prepare(database: Database) -> None:
    with database.transaction():  # another process may be at it as well
        version = int(database.row("PRAGMA user_version")[0])
        if version > _SCHEMA_VERSION:
            raise Conflict(f"{database.path}: written by a newer cellwall (schema {version})")
        if version == 0:
            database.run(
                "CREATE TABLE policies (tenant TEXT PRIMARY KEY, generation INTEGER NOT NULL, body BLOB NOT NULL)"
                " WITHOUT ROWID"
            )
            database.run("CREATE TABLE numbers (latest INTEGER NOT NULL)")
            database.run("INSERT INTO numbers VALUES (0)")
            database.run(f"PRAGMA user_version = {_SCHEMA_VERSION}")
