"""The tables of the journal: how they are made, and how those of an older schema become them.

Owns: the statements of the schema and what each former one lacked. Which schema a file has, and that nothing else is
written meanwhile, is `state_file`'s to know; every function here runs inside a transaction of its caller's.
"""

import os

import msgspec

from cellwall.adapters.record.database import Database
from cellwall.adapters.record.records import decode_endpoint, encode_endpoint
from cellwall.model.versions import BLOCK, END_BLOCK, FIRST_BLOCK, Blocks

# Endpoints have a row id, else each of their indexes has the key in it, and whoever claims changes the key. A file of
# this schema that was made before has none, and does as well, only slower.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE endpoints (
    container_id TEXT NOT NULL, ifname TEXT NOT NULL, phase TEXT NOT NULL, address4 INTEGER NOT NULL UNIQUE,
    mac INTEGER NOT NULL UNIQUE, host_link TEXT NOT NULL UNIQUE, netns_device INTEGER NOT NULL,
    netns_inode INTEGER NOT NULL, body BLOB NOT NULL, tenant TEXT NOT NULL,
    PRIMARY KEY (container_id, ifname), UNIQUE (netns_device, netns_inode, ifname)
);
CREATE INDEX endpoints_of ON endpoints (tenant);
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
CREATE TABLE policies (tenant TEXT PRIMARY KEY, generation INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
"""


def create(db: Database, boot_id: str) -> None:
    """All tables, in a file that has none, for this boot."""
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            db.run(statement)
    _put(db, "boot_id", boot_id.encode())
    _put_versions(db, _first_block())


def upgrade(db: Database) -> None:
    """What an older schema lacks. 1 did not know which links of closed endpoints are retired, the first of it; to
    retire one again does no harm. 2 knew no policies, 3 no numbers of tenants. 4 lacks nothing: it tells programs that
    would not finish a claim which is on record before it is done. Another process may have done it meanwhile: what is
    there already is left."""
    if "retired" not in _columns(db, "draining"):
        db.run("ALTER TABLE draining ADD COLUMN retired INTEGER NOT NULL DEFAULT 0")
        db.run("CREATE INDEX unretired ON draining (retired) WHERE NOT retired")
    if "tenant" not in _columns(db, "endpoints"):
        _add_policies(db)
    _number_tenants(db)


def _add_policies(db: Database) -> None:
    db.run("ALTER TABLE endpoints ADD COLUMN tenant TEXT NOT NULL DEFAULT ''")
    db.run("CREATE INDEX endpoints_of ON endpoints (tenant)")
    rows = [decode_endpoint(row[0]) for row in db.rows("SELECT body FROM endpoints")]
    db.run_each(
        "UPDATE endpoints SET tenant = ? WHERE container_id = ? AND ifname = ?",
        [(row.tenant, row.key.container_id, row.key.ifname) for row in rows],
    )
    db.run(next(text for text in _SCHEMA.split(";\n") if "TABLE policies" in text))
    row = db.row("SELECT value FROM meta WHERE key = 'generation'")
    former = int(row[0] if row else 0) // BLOCK
    first = former + 1 if FIRST_BLOCK <= former < END_BLOCK - 1 else _first_block()
    _put_versions(db, first, tuple(row.generation for row in rows))


def _number_tenants(db: Database) -> None:
    """Of endpoints that have no number yet, with a bit that no version has."""
    bodies = db.rows("SELECT body FROM endpoints ORDER BY container_id, ifname")
    rows = [row for row in (decode_endpoint(body[0]) for body in bodies) if not row.tenant_number]
    numbers: dict[object, int] = {}
    for row in rows:
        number = numbers.setdefault(row.tenant or row.key, 1 << 31 | len(numbers))
        body = encode_endpoint(msgspec.structs.replace(row, tenant_number=number))
        where = (row.key.container_id, row.key.ifname)
        db.run("UPDATE endpoints SET body = ? WHERE container_id = ? AND ifname = ?", (body, *where))


def _first_block() -> int:
    """At random: a journal that was lost gave out versions that open flows still carry."""
    return FIRST_BLOCK + int.from_bytes(os.urandom(4)) % (END_BLOCK - FIRST_BLOCK)


def _put_versions(db: Database, first: int, shared: tuple[int, ...] = ()) -> None:
    _put(db, "versions", msgspec.json.encode(Blocks(first, END_BLOCK, 0, shared)))


def _put(db: Database, key: str, value: bytes) -> None:
    db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _columns(db: Database, table: str) -> set[str]:
    return {row[1] for row in db.rows(f"PRAGMA table_info({table})")}
