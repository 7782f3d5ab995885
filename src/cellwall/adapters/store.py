"""The journal and the state of this boot: one SQLite file in the run directory.

Owns: endpoints with their phase, bindings, draining leases, the policy-version counter, and what `up` did. Every
operation is journalled here before the kernel is touched: a row in phase `attaching` or `detaching` that survives
its process is a crash, and reconcile takes it back or finishes it.

It describes one boot of one node. A file of another boot is discarded (its links and rules are gone with that
boot), a file of a newer schema is refused. WAL with synchronous=FULL: 0.17 ms a transaction on a disk, less on the
tmpfs that a run directory is.
"""

import _sqlite3 as sqlite3  # sqlite3 itself adds types that nothing here stores, for 1 ms of a CNI call
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address

import msgspec

from cellwall.adapters.records import decode_endpoint, encode_endpoint
from cellwall.engine.contracts import Phase
from cellwall.errors import Conflict, Unavailable
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE endpoints (
    container_id TEXT NOT NULL, ifname TEXT NOT NULL, phase TEXT NOT NULL, address4 INTEGER NOT NULL UNIQUE,
    mac INTEGER NOT NULL UNIQUE, host_link TEXT NOT NULL UNIQUE, netns_device INTEGER NOT NULL,
    netns_inode INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (container_id, ifname), UNIQUE (netns_device, netns_inode, ifname)
) WITHOUT ROWID;
CREATE INDEX unfinished ON endpoints (phase) WHERE phase != 'attached';
CREATE TABLE bindings (
    container_id TEXT NOT NULL, ifname TEXT NOT NULL, protocol TEXT NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, bind TEXT NOT NULL
);
CREATE INDEX bound ON bindings (protocol, first, last);
CREATE INDEX bindings_of ON bindings (container_id, ifname);
CREATE TABLE draining (
    address4 INTEGER PRIMARY KEY, host_link TEXT NOT NULL UNIQUE, body BLOB NOT NULL, retired INTEGER NOT NULL
);
CREATE INDEX unretired ON draining (retired) WHERE NOT retired;
"""


def _first_generation() -> int:
    """At random, and high: multi-homing and service meshes mark flows with small numbers of their own, and a journal
    that was lost gave out numbers that open flows still carry."""
    return (1 << 29) + int.from_bytes(os.urandom(4)) % (1 << 29)


class Store:
    """One connection; used by one thread at a time (the writer lock sees to that), whichever it is."""

    def __init__(self, directory: str | os.PathLike[str], boot_id: str) -> None:
        os.makedirs(directory, exist_ok=True, mode=0o750)
        self.path = os.path.join(directory, "state.db")
        self._db = self._open()
        try:
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                raise Conflict(f"{self.path}: written by a newer cellwall (schema {version})")
            if version == 0:
                self._create(boot_id)
            elif self.get("boot_id") != boot_id.encode():
                self._discard()
                self._create(boot_id)
        except BaseException:
            self._db.close()
            raise
        self._inode = os.stat(self.path).st_ino

    def _open(self) -> sqlite3.Connection:
        # The file holds no secrets, but who may write it steers the firewall: created 0600 whatever the umask.
        # Only if it is missing: closing any descriptor of a file lets go of all locks that the process has on it
        # (fcntl(2)), those of another connection too, whose log the last other process would then delete.
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self.path, isolation_level=None, timeout=10.0, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        return db

    def _create(self, boot_id: str) -> None:
        with self.transaction():
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self.put("boot_id", boot_id.encode())

    def _discard(self) -> None:
        self._db.close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")
        self._db = self._open()

    def close(self) -> None:
        self._db.close()

    def in_place(self) -> bool:
        """The file that is open is still the one at its path: nobody removed the run directory meanwhile."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block, or none. The writer lock makes waiting for another writer a fault."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise Unavailable(f"{self.path}: {error}") from error
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -------------------------------------------------------------- what `up` did, counters

    def get(self, key: str) -> bytes | None:
        """A named record, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, key: str, value: bytes) -> None:
        """Write a named record."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def drop(self, key: str) -> None:
        """Remove a named record; tolerates absence."""
        self._db.execute("DELETE FROM meta WHERE key = ?", (key,))

    def next_generations(self, count: int) -> range:
        """`count` policy-version numbers that no flow of this boot carries."""
        first = int(self.get("generation") or _first_generation())
        self.put("generation", str(first + count).encode())
        return range(first, first + count)

    # -------------------------------------------------------------- endpoints

    def endpoint(self, key: EndpointKey) -> tuple[Endpoint, Phase] | None:
        """One endpoint and its phase."""
        row = self._db.execute(
            "SELECT body, phase FROM endpoints WHERE container_id = ? AND ifname = ?", (key.container_id, key.ifname)
        ).fetchone()
        return None if row is None else (decode_endpoint(row[0]), row[1])

    def endpoints(self, phase: Phase | None = None) -> tuple[Endpoint, ...]:
        """All endpoints, or those of one phase, by key."""
        where, arguments = ("WHERE phase = ?", (phase,)) if phase else ("", ())
        rows = self._db.execute(f"SELECT body FROM endpoints {where} ORDER BY container_id, ifname", arguments)
        return tuple(decode_endpoint(row[0]) for row in rows)

    def unfinished(self) -> bool:
        """Some operation was begun and neither finished nor taken back."""
        return self._db.execute("SELECT 1 FROM endpoints WHERE phase != 'attached' LIMIT 1").fetchone() is not None

    def count(self) -> int:
        """How many endpoints there are, in any phase."""
        return int(self._db.execute("SELECT count(*) FROM endpoints").fetchone()[0])

    def in_netns(self, device: int, inode: int, ifname: str) -> EndpointKey | None:
        """Who holds this interface of this namespace."""
        row = self._db.execute(
            "SELECT container_id, ifname FROM endpoints WHERE netns_device = ? AND netns_inode = ? AND ifname = ?",
            (device, inode, ifname),
        ).fetchone()
        return None if row is None else EndpointKey(row[0], row[1])

    def mac_holder(self, mac: int) -> EndpointKey | None:
        """Who has this MAC."""
        row = self._db.execute("SELECT container_id, ifname FROM endpoints WHERE mac = ?", (mac,)).fetchone()
        return None if row is None else EndpointKey(row[0], row[1])

    def host_link_taken(self, host_link: str) -> bool:
        """Some endpoint has this host link, or had it and its address still drains."""
        for table in ("endpoints", "draining"):
            if self._db.execute(f"SELECT 1 FROM {table} WHERE host_link = ?", (host_link,)).fetchone() is not None:
                return True
        return False

    def write_endpoints(self, endpoints: Sequence[Endpoint], phase: Phase) -> None:
        """Insert or replace endpoints and their bindings."""
        for endpoint in endpoints:
            key = endpoint.key
            self._upsert(
                (
                    key.container_id,
                    key.ifname,
                    phase,
                    int(endpoint.address4),
                    endpoint.mac,
                    endpoint.host_link,
                    endpoint.netns_device,
                    endpoint.netns_inode,
                    encode_endpoint(endpoint),
                ),
            )
            self._delete_bindings(key)
            self._db.executemany(
                "INSERT INTO bindings VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (key.container_id, key.ifname, b.protocol, b.host_port, b.last, str(b.bind or ""))
                    for b in endpoint.bindings
                ],
            )

    def _upsert(self, row: tuple[object, ...]) -> None:
        """Not INSERT OR REPLACE: that would delete whatever other endpoint has the same address, MAC or link."""
        try:
            self._db.execute(
                "INSERT INTO endpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (container_id, ifname) DO UPDATE"
                " SET phase = excluded.phase, address4 = excluded.address4, mac = excluded.mac,"
                " host_link = excluded.host_link, netns_device = excluded.netns_device,"
                " netns_inode = excluded.netns_inode, body = excluded.body",
                row,
            )
        except sqlite3.IntegrityError as error:
            raise Conflict(f"container id: {row[0]}/{row[1]}: shares what is unique with another: {error}") from error

    def set_phase(self, keys: Iterable[EndpointKey], phase: Phase) -> None:
        """Change the phase of endpoints that are on record, and nothing else of them."""
        self._db.executemany(
            "UPDATE endpoints SET phase = ? WHERE container_id = ? AND ifname = ?",
            [(phase, key.container_id, key.ifname) for key in keys],
        )

    def delete_endpoints(self, keys: Iterable[EndpointKey]) -> None:
        """Remove endpoints and their bindings; tolerates absence."""
        for key in keys:
            self._db.execute(
                "DELETE FROM endpoints WHERE container_id = ? AND ifname = ?", (key.container_id, key.ifname)
            )
            self._delete_bindings(key)

    def _delete_bindings(self, key: EndpointKey) -> None:
        self._db.execute("DELETE FROM bindings WHERE container_id = ? AND ifname = ?", (key.container_id, key.ifname))

    def binding_holder(self, binding: PortBinding) -> EndpointKey | None:
        """Who holds a binding that overlaps this one."""
        row = self._db.execute(
            "SELECT container_id, ifname FROM bindings WHERE protocol = ? AND first <= ? AND last >= ?"
            " AND (bind = '' OR ? = '' OR bind = ?) LIMIT 1",
            (binding.protocol, binding.last, binding.host_port, str(binding.bind or ""), str(binding.bind or "")),
        ).fetchone()
        return None if row is None else EndpointKey(row[0], row[1])

    # -------------------------------------------------------------- leases

    def leased(self) -> list[int]:
        """The addresses of all endpoints, as numbers: every attach reads all of them."""
        row = self._db.execute("SELECT json_group_array(address4) FROM endpoints").fetchone()
        return msgspec.json.decode(row[0], type=list[int])  # a row each takes three times as long

    def add_draining(self, endpoints: Iterable[Endpoint]) -> None:
        """Released addresses that the kernel may still know; their links are not retired yet."""
        self._db.executemany(
            "INSERT OR REPLACE INTO draining VALUES (?, ?, ?, 0)",
            [(int(endpoint.address4), endpoint.host_link, encode_endpoint(endpoint)) for endpoint in endpoints],
        )

    def draining(self) -> tuple[Endpoint, ...]:
        """The former endpoints whose addresses drain."""
        return tuple(decode_endpoint(row[0]) for row in self._db.execute("SELECT body FROM draining ORDER BY rowid"))

    def draining_addresses(self) -> list[int]:
        """Only their addresses, as numbers: what a lease needs."""
        return [row[0] for row in self._db.execute("SELECT address4 FROM draining")]

    def unretired(self) -> tuple[Endpoint, ...]:
        """The former endpoints whose links nobody has retired yet."""
        rows = self._db.execute("SELECT body FROM draining WHERE NOT retired")
        return tuple(decode_endpoint(row[0]) for row in rows)

    def mark_retired(self, addresses: Iterable[IPv4Address]) -> None:
        """The links of these former endpoints are retired."""
        self._db.executemany("UPDATE draining SET retired = 1 WHERE address4 = ?", [(int(a),) for a in addresses])

    def delete_draining(self, addresses: Iterable[IPv4Address]) -> None:
        """These addresses are free."""
        self._db.executemany("DELETE FROM draining WHERE address4 = ?", [(int(address),) for address in addresses])
