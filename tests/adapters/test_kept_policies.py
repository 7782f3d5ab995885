"""Policies in the journal and over a boot: what is read back, what is refused."""

import errno
import sqlite3
import stat
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from adapters.test_store import _endpoint
from cellwall.adapters.record.policies import KeptPolicies
from cellwall.adapters.record.state_file import SCHEMA_VERSION
from cellwall.adapters.record.store import Store
from cellwall.errors import Conflict, KernelError
from cellwall.model.endpoint import EndpointKey
from cellwall.model.policy import NO_TIERS, OPEN, Policy, PolicyRecord, Rule, Tiers
from cellwall.model.versions import BLOCK, FIRST_BLOCK, Blocks

ALLOWED = Policy("allow", (Rule("allow", ip_network("151.101.0.0/16"), "tcp", (80, 443)),), (ip_network("::/0"),))
BLOCKED = Policy("block", links=True, monitor=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "run", "boot-1")


def test_endpoints_read_back_are_under_the_policies_on_record(store: Store) -> None:
    own = _endpoint(tiers=Tiers(endpoint=ALLOWED))
    other = _endpoint("other", 3, tenant="else")
    with store.transaction():
        store.write_endpoints([own, other], "attached")
        store.policies.write("acme", PolicyRecord(BLOCKED, 7))
    under = msgspec.structs.replace(own, tiers=Tiers(BLOCKED, ALLOWED, 7))
    assert store.endpoint(EndpointKey("web")) == (under, "attached")
    assert store.endpoints() == (other, under)
    assert store.endpoints_of("acme") == (under,)
    assert store.endpoint(EndpointKey("other")) == (other, "attached")
    assert (store.policies.get("acme"), store.policies.get("else")) == (PolicyRecord(BLOCKED, 7), None)
    with store.transaction():
        store.policies.write("acme", None)
        store.write_endpoints([_endpoint()], "attached")
    assert store.endpoints_of("acme")[0].tiers is NO_TIERS
    assert store.policies.all() == {}
    store.close()


def test_endpoints_of_a_tenant_are_the_attached_ones(store: Store) -> None:
    with store.transaction():
        store.write_endpoints([_endpoint()], "attached")
        store.write_endpoints([_endpoint("other", 3)], "detaching")
    assert [one.key.container_id for one in store.endpoints_of("acme")] == ["web"]
    assert store.endpoints_of("nobody") == ()
    store.close()


def test_a_journal_that_knew_no_policies_is_taken_over_under_its_endpoints(tmp_path: Path) -> None:
    store = Store(tmp_path, "boot-1")
    with store.transaction():
        store.write_endpoints([_endpoint()], "attached")
    store.close()
    raw = sqlite3.connect(tmp_path / "state.db")
    raw.execute("DROP INDEX endpoints_of")
    raw.execute("ALTER TABLE endpoints DROP COLUMN tenant")
    raw.execute("DROP TABLE policies")
    raw.execute(
        "UPDATE endpoints SET body = ?", (_without_policy(raw.execute("SELECT body FROM endpoints").fetchone()[0]),)
    )
    raw.execute("DELETE FROM meta WHERE key = 'versions'")
    raw.execute("INSERT INTO meta VALUES ('generation', ?)", (str(FIRST_BLOCK * BLOCK + 1000).encode(),))
    raw.execute("PRAGMA user_version = 2")
    raw.commit()
    raw.close()
    numbered = msgspec.structs.replace(_endpoint(), tenant_number=1 << 31)  # no version has that bit
    for _ in range(2):
        store = Store(tmp_path, "boot-1")
        assert store.endpoints_of("acme") == store.endpoints() == (numbered,)
        assert store._db.row("PRAGMA user_version")[0] == SCHEMA_VERSION
        left = msgspec.json.decode(store.get("versions") or b"", type=Blocks)
        assert (left.next, left.shared) == (FIRST_BLOCK + 4, (_endpoint().generation,))
        with store.transaction():
            store.policies.write("acme", PolicyRecord(BLOCKED, 1))
            store.write_endpoints([_endpoint("other", 3, tenant="else")], "attached")
        assert store.endpoints_of("acme")[0].tiers.tenant == BLOCKED
        with store.transaction():
            store.policies.write("acme", None)
            store.delete_endpoints([EndpointKey("other")])
        store.close()


def _without_policy(body: bytes) -> bytes:
    """As a record was before it had the last field."""
    return msgspec.json.encode(msgspec.json.decode(body)[:-1])


def test_what_is_kept_is_read_back_with_the_greatest_number_ever(tmp_path: Path) -> None:
    for known, latest in (({"acme": PolicyRecord(ALLOWED, 1), "else": PolicyRecord(OPEN, 2)}, 2), ({"acme": None}, 3)):
        kept = KeptPolicies(str(tmp_path / "state"))
        kept.write(known, latest)
        kept.close()
    kept = KeptPolicies(str(tmp_path / "state"))
    assert kept.read() == ({"else": PolicyRecord(OPEN, 2)}, 3)
    kept.close()
    kept.close()
    assert stat.S_IMODE((tmp_path / "state/policies.db").stat().st_mode) == 0o600


def test_reading_makes_no_file(tmp_path: Path) -> None:
    kept = KeptPolicies(str(tmp_path / "state"))
    assert kept.read() == ({}, 0)
    assert not (tmp_path / "state").exists()


def test_what_a_newer_program_kept_is_refused_and_left_alone(tmp_path: Path) -> None:
    kept = KeptPolicies(str(tmp_path))
    kept.write({}, 0)
    kept.close()
    with sqlite3.connect(tmp_path / "policies.db") as raw:
        raw.execute("PRAGMA user_version = 2")
    raw.close()
    with pytest.raises(Conflict, match="newer"):
        kept.read()


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    kept = KeptPolicies(str(tmp_path))
    kept.write({"acme": PolicyRecord(BLOCKED, 1)}, 1)
    kept.close()
    for body in (b"{", b'{"mode": "closed"}', b'{"version": 2}', b"\xff"):
        with sqlite3.connect(tmp_path / "policies.db") as raw:
            raw.execute("UPDATE policies SET body = ?", (body,))
        raw.close()
        with pytest.raises(Conflict, match="damaged"):
            kept.read()
        kept.close()


def test_a_directory_that_cannot_be_made_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("not a directory")
    with pytest.raises(KernelError, match=r"lib/cellwall/policies\.db") as refused:
        KeptPolicies(str(tmp_path / "lib/cellwall")).write({}, 1)
    assert refused.value.errno == errno.ENOTDIR
