"""The journal: what is read back, what it refuses, what two holders of one file see."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import msgspec
import pytest

from cellwall.adapters.record.records import decode_endpoint, encode_endpoint
from cellwall.adapters.record.state_file import SCHEMA_VERSION
from cellwall.adapters.record.store import Store
from cellwall.errors import Conflict, Unavailable
from cellwall.model.endpoint import Endpoint, EndpointKey, Phase, parse_binding
from cellwall.model.policy import OPEN, PolicyRecord
from cellwall.model.versions import END_BLOCK, Blocks, first_version


def test_a_closed_journal_is_no_error_of_sqlite_s(tmp_path: Path) -> None:
    """A wall that is used after its `with` block asks a journal that is closed."""
    store = Store(str(tmp_path), "boot")
    store.close()
    store.close()
    for asked in (store.look, store.endpoints, lambda: store.get("foundation"), lambda: store.put("a", b"b")):
        with pytest.raises(Conflict, match="closed"):
            asked()


def _endpoint(container_id: str = "web", number: int = 2, **changes: object) -> Endpoint:
    endpoint = Endpoint(
        key=EndpointKey(container_id),
        tenant="acme",
        host_link=f"b9h{number:012x}",
        host_index=number,
        mac=0x0A5800000000 + number,
        address4=IPv4Address("192.168.0.0") + number,
        address6=IPv6Address("fd00:abcd::") + number,
        generation=number,
        netns=f"/run/netns/{container_id}",
        netns_device=4,
        netns_inode=1000 + number,
        past_generations=(1,),
        bindings=(
            parse_binding("8080:80"),
            parse_binding("8099:80/tcp6to4"),
            parse_binding("[2001:db8::1]:443:443@2001:db8::/32"),
        ),
    )
    return msgspec.structs.replace(endpoint, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "run", "boot-1")) as opened:
        yield opened


def test_an_endpoint_reads_back_as_written(store: Store) -> None:
    with store.transaction():
        store.write_endpoints([_endpoint()], "attaching")
    assert store.endpoint(EndpointKey("web")) == (_endpoint(), "attaching")
    assert store.unfinished()
    assert store.in_netns(4, 1002) == {"eth0": EndpointKey("web")}


def test_what_is_proxied_is_found_in_every_phase(store: Store) -> None:
    plain = (parse_binding("8081:80"), parse_binding("443:443@2001:db8::/32"))
    with store.transaction():
        store.write_endpoints([_endpoint()], "attaching")
        store.write_endpoints(
            [_endpoint("db", 3, bindings=(parse_binding("8080:80/tcp4to6@2001:db8::/32"),))], "attached"
        )
        store.write_endpoints(
            [_endpoint("plain", 6, bindings=plain, past_generations=(4, 6), tenant_number=6)], "attached"
        )
    assert [one.key.container_id for one in store.proxied()] == ["db", "web"]


def test_who_is_not_root_is_known_by_what_they_asked_for_in_every_phase(store: Store) -> None:
    rows: dict[str, tuple[Phase, bool]] = {
        "a": ("attaching", True), "b": ("attached", False), "c": ("detaching", True)
    }  # fmt: skip
    with store.transaction():
        for number, (name, (phase, member)) in enumerate(rows.items(), 2):
            store.write_endpoints([_endpoint(name, number, bindings=(), member=member)], phase)
    assert store.members_count() == 2
    assert {one.key.container_id for one in store.endpoints() if one.member} == {"a", "c"}


def test_what_an_earlier_version_wrote_is_roots() -> None:
    """It did not say: a bound may be met late, and nobody is refused for what it never was."""
    former = encode_endpoint(_endpoint()).removesuffix(b",false]") + b"]"
    assert decode_endpoint(former) == _endpoint()


def test_what_this_process_wrote_is_told_once(store: Store) -> None:
    """By name, without a look at the record: policies are large, and it is asked in each turn of anybody's."""
    web, pooled, job = _endpoint(), _endpoint("~1", 3, bindings=()), EndpointKey("job")
    renamed = msgspec.structs.replace(pooled, key=job)
    assert store.changed() is None, "asked for the first time: anything may be"
    for write, told in (
        (lambda: store.get("foundation"), set()),
        (lambda: store.add_endpoint(web, "attaching"), {web.key}),
        (lambda: store.finish_attach([web]), {web.key}),
        (lambda: store.write_endpoints([web, pooled], "attached"), {web.key, pooled.key}),
        (lambda: store.rename_endpoint(pooled.key, renamed, "claiming"), {job}),
        (lambda: store.finish_claims([job]), set()),
        (lambda: store.policies.write("acme", PolicyRecord(OPEN, 2)), {"acme"}),
        (lambda: store.policies.write("acme", None), {"acme"}),
        (lambda: store.set_phase([web.key], "detaching"), {web.key}),
        (lambda: store.delete_endpoints([web.key, job]), {web.key, job}),
    ):
        with store.transaction():
            write()
        assert store.changed() == told
        assert store.changed() == set()


def test_where_another_process_wrote_or_there_was_much_anything_may_be_changed(store: Store, tmp_path: Path) -> None:
    store.changed()
    with closing(Store(tmp_path / "run", "boot-1")) as other:
        assert other.endpoints() == () and store.changed() == set(), "it only read"
        other.put("key", b"value")
        assert store.changed() is None and store.changed() == set()
    for number in range(2, 1100):
        store.set_phase([EndpointKey(f"web-{number}")], "attached")
    assert store.changed() is None and store.changed() == set()


@pytest.mark.parametrize("field", ["address4", "mac", "host_link", "netns_inode"])
def test_what_is_unique_is_refused_and_the_holder_stays(store: Store, field: str) -> None:
    first, second = _endpoint(), _endpoint("db", 3)
    with store.transaction():
        store.write_endpoints([first], "attached")
    with pytest.raises(Conflict), store.transaction():
        store.write_endpoints([msgspec.structs.replace(second, **{field: getattr(first, field)})], "attaching")
    assert store.endpoints() == (first,)


def test_whose_a_container_is_is_known_of_each_of_its_interfaces(store: Store) -> None:
    second = msgspec.structs.replace(_endpoint("web", 3, tenant="b"), key=EndpointKey("web", "eth1"))
    store.write_endpoints([_endpoint("web", 2, tenant="a"), second, _endpoint("db", 4, tenant="c")], "attached")
    assert [store.tenants_of(name) for name in ("web", "db", "gone")] == [{"a", "b"}, {"c"}, set()]


def test_one_that_was_renamed_has_all_of_its_new_self_and_nothing_of_the_old(store: Store) -> None:
    store.write_endpoints([_endpoint("~1", 2, bindings=()), _endpoint("taken", 3, bindings=())], "attached")
    web = msgspec.structs.replace(_endpoint("web", 2, tenant="other"), bindings=(parse_binding("8080:80"),))
    assert [one.key.container_id for one in store.pooled()] == ["~1"] and store.pooled_count() == 1
    store.rename_endpoint(EndpointKey("~1"), web, "attaching")
    assert store.endpoint(EndpointKey("~1")) is None and store.pooled_count() == 0
    assert store.endpoint(web.key) == (web, "attaching")
    assert store.count_of("other") == 1 and store.binding_holder(web.bindings[0]) == web.key
    with pytest.raises(Conflict, match="web/eth0: is on record already"):
        store.rename_endpoint(EndpointKey("taken"), web, "attaching")


def test_what_a_claim_needs_of_the_record_is_told_in_one_question(store: Store) -> None:
    key = EndpointKey("job", "eth0")
    assert store.claimable(key, "acme") is None
    ready = [_endpoint("~2", 3, tenant=""), _endpoint("~1", 4, tenant="")]
    store.write_endpoints([*ready, _endpoint("~0", 5, tenant="")], "attached")
    store.set_phase([EndpointKey("~0", "eth0")], "attaching")
    for tenant in ("acme", ""):
        assert store.claimable(key, tenant) == (ready[1], None)
    store.write_endpoints([_endpoint("web", 6, tenant="acme", tenant_number=77)], "attaching")
    assert store.claimable(key, "acme") == (ready[1], 77)
    assert store.claimable(key, "other") == store.claimable(key, "") == (ready[1], None)
    assert store.claimable(EndpointKey("web", "eth0"), "acme") is None
    assert store.claimable(EndpointKey("web", "eth1"), "acme") == (ready[1], 77)
    store.policies.write("acme", PolicyRecord(OPEN, 1))
    assert store.claimable(key, "acme") is None and store.claimable(key, "other") is not None


def test_a_second_holder_in_the_process_takes_no_lock_away(store: Store) -> None:
    """With the first holder's lock gone, the last other process would delete the log that it still reads."""
    Store(Path(store.path).parent, "boot-1").close()
    other = (
        "import sys; from pathlib import Path; from cellwall.adapters.record.store import Store\n"
        "store = Store(Path(sys.argv[1]), 'boot-1')\n"
        "with store.transaction(): store.put('word', sys.argv[2].encode())\n"
        "store.close()"
    )
    for word in ("one", "two"):
        subprocess.run([sys.executable, "-c", other, str(Path(store.path).parent), word], check=True)
        assert store.get("word") == word.encode()


def test_a_look_is_of_one_moment_and_ends_with_the_first_write(store: Store) -> None:
    with closing(Store(Path(store.path).parent, "boot-1")) as other:
        store.look()
        assert store.get("key") is None
        with store.transaction():
            store.put("key", b"ours")
        assert other.get("key") == b"ours"
        store.look()
        store.put("key", b"at once")
        assert other.get("key") == b"at once"
        store.look()
        store.end_look()
        store.end_look()
        with other.transaction():
            other.put("key", b"later")
        assert store.get("key") == b"later"


def test_nothing_is_written_by_what_was_looked_at_before_somebody_else_wrote(store: Store) -> None:
    """Who writes has the writer lock, so nobody does; what is done is done by what was so, or not at all."""
    with closing(Store(Path(store.path).parent, "boot-1")) as other:
        store.look()
        assert store.get("key") is None
        with other.transaction():
            other.put("key", b"theirs")
        assert store.get("key") is None
        with pytest.raises(Unavailable), store.transaction():
            store.put("key", b"ours")
        assert store.get("key") == b"theirs"
        with store.transaction():
            store.put("key", b"ours")
        assert other.get("key") == b"ours"


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.transaction():
        store.write_endpoints([_endpoint()], "attached")
        raise RuntimeError
    assert store.count() == 0


@pytest.mark.parametrize(
    ("asked", "taken"),
    [("8080:1", True), ("8000-8090:1", True), ("8081:80", False), ("8080:80/udp", False), ("10.0.0.1:8080:1", True)],
)
def test_a_host_port_has_one_holder(store: Store, asked: str, taken: bool) -> None:
    with store.transaction():
        store.write_endpoints([_endpoint()], "attached")
    assert (store.binding_holder(parse_binding(asked)) == EndpointKey("web")) is taken


def test_releasing_an_address_costs_the_same_whatever_else_is_leased(store: Store) -> None:
    """Counted in the steps of SQLite's machine and not in time."""
    cost = []
    for first, last in ((2, 3), (3, 2003)):
        with store.transaction():
            store.write_endpoints([_endpoint(f"c{n}", n, bindings=()) for n in range(first, last)], "attached")
        steps: list[None] = []
        store._db._db.set_progress_handler(lambda steps=steps: steps.append(None), 1)
        gone = _endpoint(f"c{first}", first)
        with store.transaction():
            store.delete_endpoints([gone.key])
            store.draining.add([gone])
        with store.transaction():
            store.draining.remove([gone.address4])
        store._db._db.set_progress_handler(None, 1)
        cost.append(len(steps))
    assert cost[0] == cost[1] > 0


def test_policy_versions_of_a_lost_journal_are_not_given_out_again(tmp_path: Path) -> None:
    """Flows that carry them are open still. Nor are the small numbers that others mark flows with."""
    first: list[int] = []
    for number in range(8):
        store = Store(tmp_path / str(number), "boot-1")
        first.append(msgspec.json.decode(store.get("versions") or b"", type=Blocks).next)
        store.close()
    assert len(set(first)) == 8
    assert all(1 << 29 <= first_version(block, 1 << 31) < 1 << 30 for block in first)


def test_a_journal_of_a_program_that_knew_no_claims_is_taken_over_and_not_given_back(tmp_path: Path) -> None:
    """It would take one that is `claiming` for neither attached nor begun."""
    numbered = msgspec.structs.replace(_endpoint(), tenant_number=77)
    store = Store(tmp_path, "boot-1")
    with store.transaction():
        store.write_endpoints([numbered], "attached")
    store.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as raw:
        raw.execute("PRAGMA user_version = 4")
    with closing(Store(tmp_path, "boot-1")) as store:
        assert store.endpoints() == (numbered,)
        assert store._db.row("PRAGMA user_version")[0] == SCHEMA_VERSION > 4


@pytest.mark.parametrize("knew_retired", [False, True])
def test_a_journal_of_the_first_schema_is_taken_over_with_what_is_in_it(tmp_path: Path, knew_retired: bool) -> None:
    store = Store(tmp_path, "boot-1")
    former = _endpoint()
    with store.transaction():
        store.draining.add([former])
    store.close()
    raw = sqlite3.connect(tmp_path / "state.db")
    if not knew_retired:
        raw.execute("DROP INDEX unretired")
        raw.execute("ALTER TABLE draining DROP COLUMN retired")
    raw.execute("PRAGMA user_version = 1")
    raw.close()
    for _ in range(2):
        store = Store(tmp_path, "boot-1")
        assert store.draining.unretired() == store.draining.all() == (former,)
        assert store._db.row("PRAGMA user_version")[0] == SCHEMA_VERSION
        store.close()
    store = Store(tmp_path, "boot-1")
    with store.transaction():
        store.draining.mark_retired([former.address4])
        store.draining.add([_endpoint("other", 3)])
    assert len(store.draining.all()) == 2
    assert len(store.draining.unretired()) == 1
    store.close()


@pytest.mark.parametrize("ends", ["a transaction", "its process in order", "its process by death"])
def test_a_claim_that_is_done_is_attached_with_what_is_written_next_and_at_the_end(store: Store, ends: str) -> None:
    with store.transaction():
        store.write_endpoints([_endpoint()], "claiming")
    assert (store.unfinished(), store.interrupted()) == (False, True)
    store.finish_claims([_endpoint().key])
    assert not store.interrupted()
    with closing(Store(Path(store.path).parent, "boot-1")) as next_one:
        assert next_one.claims_left() == (_endpoint(),)
        if ends == "a transaction":
            with store.transaction():
                store.put("something", b"else")
        elif ends == "its process in order":
            store.close()
        assert next_one.interrupted() is (ends == "its process by death")


def test_a_claim_counts_as_attached_before_it_is_on_record_as_done(store: Store) -> None:
    """Else a policy of its tenant would pass it by, and its figures would be nobody's."""
    claimed = msgspec.structs.replace(_endpoint(), tenant="acme")
    with store.transaction():
        store.write_endpoints([claimed], "claiming")
    assert store.endpoints_of("acme") == (claimed,) == store.endpoints("attached")
    assert [one.key for one in store.metered()] == [claimed.key]


def test_a_claim_is_not_done_by_what_else_becomes_of_its_endpoint(store: Store) -> None:
    with store.transaction():
        store.write_endpoints([_endpoint()], "claiming")
    with store.transaction():
        store.write_endpoints([_endpoint()], "attached")  # as of other rules, or under another policy
    assert store.interrupted() and store.claims_left() == (_endpoint(),)


def test_a_claim_that_is_done_and_ends_with_what_is_written_next_is_not_attached_again(store: Store) -> None:
    with store.transaction():
        store.write_endpoints([_endpoint()], "claiming")
    store.finish_claims([_endpoint().key])
    with store.transaction():
        store.set_phase([_endpoint().key], "detaching")
    assert store.endpoint(_endpoint().key) == (_endpoint(), "detaching")


def test_a_link_that_was_retired_is_on_record_with_the_next_transaction(tmp_path: Path) -> None:
    store, other = Store(tmp_path, "boot-1"), Store(tmp_path, "boot-1")
    first, second = _endpoint("web", 2), _endpoint("db", 3)
    with store.transaction():
        store.draining.add([first, second])
    store.draining.mark_retired([first.address4])
    assert store.draining.unretired() == (second,)
    assert set(other.draining.unretired()) == {first, second}
    with pytest.raises(ZeroDivisionError), store.transaction():
        raise ZeroDivisionError
    assert (store.draining.unretired(), len(other.draining.unretired())) == ((second,), 2)
    with store.transaction():
        store.put("something", b"else")
    assert store.draining.unretired() == other.draining.unretired() == (second,)
    with store.transaction():
        store.draining.remove([first.address4])
        store.draining.add([msgspec.structs.replace(first, host_link="b9hother")])
    assert len(store.draining.unretired()) == len(other.draining.unretired()) == 2
    store.close()
    other.close()


def test_an_attach_is_finished_with_what_its_link_came_to(store: Store) -> None:
    planned = [_endpoint("web", 2, host_index=0), _endpoint("db", 3, host_index=0, bindings=())]
    with store.transaction():
        store.write_endpoints(planned, "attaching")
    wired = [msgspec.structs.replace(one, host_index=7 + number) for number, one in enumerate(planned)]
    with store.transaction():
        store.finish_attach(wired)
    assert [store.endpoint(one.key) for one in wired] == [(one, "attached") for one in wired]
    assert store.held() == (2, 0)
    assert not store.unfinished()
    with store.transaction():
        store.put("pending", b"elements")
    assert store.unfinished()


def test_endpoints_that_had_no_numbers_of_tenants_get_one_for_each(tmp_path: Path) -> None:
    store = Store(tmp_path, "boot-1")
    former = [_endpoint("a"), _endpoint("b", 3), _endpoint("c", 4, tenant=""), _endpoint("d", 5, tenant="")]
    with store.transaction():
        store.write_endpoints([msgspec.structs.replace(one, bindings=()) for one in former], "attached")
    store.close()
    raw = sqlite3.connect(tmp_path / "state.db")
    raw.execute("PRAGMA user_version = 3")
    raw.close()
    store = Store(tmp_path, "boot-1")
    numbers = [one.tenant_number for one in store.endpoints()]
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 3
    assert min(numbers) >= first_version(END_BLOCK, 1)  # no version is like it, nor any to come
    assert (store.number_of("acme"), store.number_of("nobody")) == (numbers[0], None)
    store.close()
