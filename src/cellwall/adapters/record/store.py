"""The journal and the state of this boot: the tables of `state_file`.

Owns: endpoints with their phase and bindings; policies in force and draining leases are parts of their own. Every
operation is journalled here before the kernel is touched: a row in any phase but `attached` that survives its process
is a crash, and the next operation takes it back or finishes it.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING

from cellwall.adapters.record.draining import Addresses, Draining
from cellwall.adapters.record.policies_in_force import PoliciesInForce
from cellwall.adapters.record.records import (
    LED_4,
    LED_6,
    MEMBERS,
    OWN_POLICY,
    decode_endpoint,
    decode_metered,
    decode_own_policy,
    decode_tenant_number,
    encode_endpoint,
)
from cellwall.adapters.record.state_file import StateFile
from cellwall.errors import AlreadyExists, CellwallError, Conflict
from cellwall.ipam import Taken
from cellwall.model.endpoint import POOLED, Endpoint, EndpointKey, Phase, PortBinding
from cellwall.model.policy import Policy

if TYPE_CHECKING:
    from cellwall.model.figures import Metered

_INSERT = "INSERT INTO endpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# Not INSERT OR REPLACE: that would delete whatever other endpoint has the same address, MAC or link. A claim is not
# done by what else becomes of its endpoint, as when rules are laid anew: only its port can be still shut.
_UPSERT = (
    f"{_INSERT} ON CONFLICT (container_id, ifname)"
    " DO UPDATE SET phase = CASE WHEN phase = 'claiming' AND excluded.phase = 'attached' THEN phase"
    " ELSE excluded.phase END, address4 = excluded.address4, mac = excluded.mac,"
    " host_link = excluded.host_link, netns_device = excluded.netns_device,"
    " netns_inode = excluded.netns_inode, body = excluded.body, tenant = excluded.tenant"
)
_ATTACHED = "phase IN ('attached', 'claiming')"
_BEGUN = "phase != 'attached'"  # in these words, by which the index of such rows is found
_POOLED = f"WHERE container_id >= '{POOLED}' AND phase = 'attached'"  # no id of a container sorts so far behind

_UNSETTLED = (
    f"SELECT (SELECT count(*) FROM endpoints WHERE {_BEGUN}), EXISTS (SELECT 1 FROM meta WHERE key = 'pending'),"
    " (SELECT count(*) FROM draining)"
)
_CLAIMABLE = (
    "SELECT body, (SELECT body FROM endpoints WHERE tenant = ?1 AND ?1 != '' LIMIT 1)"
    f" FROM endpoints {_POOLED}"
    " AND NOT EXISTS (SELECT 1 FROM endpoints WHERE container_id = ?2 AND ifname = ?3)"
    " AND NOT EXISTS (SELECT 1 FROM policies WHERE tenant = ?1) ORDER BY container_id LIMIT 1"
)

_NOTED = 1024
"""Names of what was written that are kept for who asks: of more, anything may have been."""


class Store(StateFile):
    """What is on record; used by one thread at a time (the writer lock sees to that), whichever it is."""

    def __init__(self, directory: str | os.PathLike[str], boot_id: str) -> None:
        super().__init__(directory, boot_id)
        self.policies = PoliciesInForce(self._db, self._note)
        self.draining = Draining(self._db)
        self._finished: set[EndpointKey] = set()
        self._changed: set[EndpointKey | str] | None = None
        self._others = 0

    def close(self) -> None:
        """Idempotent. Claims that are done are on record as attached first, where that can be written: else whoever
        comes next finishes them again."""
        if self._finished:
            with suppress(CellwallError), self.transaction():
                pass  # a transaction writes them whatever else is in it
        super().close()

    def transaction(self) -> AbstractContextManager[None]:
        """All writes of the block, or none. The writer lock makes waiting for another writer a fault."""
        return self._db.transaction(self._write_what_is_done, self._forget_what_is_done)

    def _write_what_is_done(self) -> None:
        self.draining.write_retired()
        if self._finished:
            self._db.run_each(
                "UPDATE endpoints SET phase = 'attached' WHERE container_id = ? AND ifname = ? AND phase = 'claiming'",
                [(key.container_id, key.ifname) for key in self._finished],
            )

    def _forget_what_is_done(self) -> None:
        self.draining.forget_retired()
        self._finished.clear()

    # -------------------------------------------------------------- endpoints

    def endpoint(self, key: EndpointKey) -> tuple[Endpoint, Phase] | None:
        """One endpoint and its phase, in which one that is `claiming` is `attached`."""
        row = self._db.row(
            "SELECT body, phase FROM endpoints WHERE container_id = ? AND ifname = ?", (key.container_id, key.ifname)
        )
        if row is None:
            return None
        phase: Phase = "attached" if row[1] == "claiming" else row[1]
        return decode_endpoint(row[0], self.policies.get), phase

    def changed(self) -> set[EndpointKey | str] | None:
        """The endpoints, and the tenants whose policies, may be others than when this was asked last; None: any may.
        What this process wrote is known, and whether another one did: nothing is asked about either."""
        others = int(self._db.row("PRAGMA data_version")[0])
        changed = self._changed if others == self._others else None
        self._changed, self._others = set(), others
        return changed

    def _note(self, written: EndpointKey | str) -> None:
        if self._changed is not None:
            self._changed.add(written)
            if len(self._changed) > _NOTED:
                self._changed = None

    def proxied(self) -> list[Endpoint]:
        """The endpoints that have a port served by a proxy, in any phase, by key. Others are not read."""
        rows = self._bodies("WHERE instr(body, ?) OR instr(body, ?)", (LED_4, LED_6))
        policy_of = cache(self.policies.get)
        found = [decode_endpoint(row[0], policy_of) for row in rows]
        return [endpoint for endpoint in found if any(binding.proxy for binding in endpoint.bindings)]

    def endpoints(self, phase: Phase | None = None) -> tuple[Endpoint, ...]:
        """All endpoints, or those of one phase, by key; those that are `claiming` are among the `attached`, too."""
        of_phase = f"WHERE {_ATTACHED}" if phase == "attached" else "WHERE phase = ?" if phase else ""
        rows = self._bodies(of_phase, () if phase in (None, "attached") else (phase,))
        policy_of = cache(self.policies.get)  # of who has no endpoint there may be many, and none is read
        return tuple(decode_endpoint(row[0], policy_of) for row in rows)

    def metered(self) -> "tuple[Metered, ...]":
        """The attached endpoints as far as figures are about them, in no order: in a tenth of the time."""
        rows = self._db.rows(f"SELECT body FROM endpoints WHERE {_ATTACHED} AND container_id < ?", (POOLED,))
        return tuple(decode_metered(row[0]) for row in rows)

    def endpoints_of(self, tenant: str) -> tuple[Endpoint, ...]:
        """The attached endpoints of a tenant, by key."""
        rows = self._bodies(f"WHERE tenant = ? AND {_ATTACHED}", (tenant,))
        known = self.policies.get(tenant)
        return tuple(decode_endpoint(row[0], lambda tenant: known) for row in rows)

    def count_of(self, tenant: str) -> int:
        """How many endpoints a tenant has, in any phase."""
        return int(self._db.row("SELECT count(*) FROM endpoints WHERE tenant = ?", (tenant,))[0])

    def tenants_of(self, container: str) -> frozenset[str]:
        """Whose a container is, by each of its endpoints, in any phase."""
        rows = self._db.rows("SELECT tenant FROM endpoints WHERE container_id = ?", (container,))
        return frozenset(row[0] for row in rows)

    def own_policies_of(self, tenant: str) -> dict[EndpointKey, Policy]:
        """The policies that endpoints of a tenant have for themselves, in any phase."""
        rows = self._bodies("WHERE tenant = ? AND instr(body, ?)", (tenant, OWN_POLICY))
        decoded = map(decode_own_policy, map(itemgetter(0), rows))
        return {key: policy for key, policy in decoded if policy is not None}

    def number_of(self, tenant: str) -> int | None:
        """What rules know a tenant by that has endpoints, in any phase."""
        row = self._db.row("SELECT body FROM endpoints WHERE tenant = ? LIMIT 1", (tenant,))
        return None if row is None else decode_tenant_number(row[0])

    def _bodies(self, where: str, arguments: Sequence[object]) -> list[tuple[bytes]]:
        return self._db.rows(f"SELECT body FROM endpoints {where} ORDER BY container_id, ifname", arguments)

    def unfinished(self) -> bool:
        """Whether an operation was begun and neither finished nor taken back, for who only reads. Claims are left out:
        a row that is `claiming` may be that of a process that lives, and has yet to write that it is done."""
        row = self._db.row(
            f"SELECT 1 FROM endpoints WHERE {_BEGUN} AND phase != 'claiming'"
            " UNION ALL SELECT 1 FROM meta WHERE key = 'pending' LIMIT 1"
        )
        return row is not None

    def interrupted(self) -> bool:
        """`unfinished` for the one who writes: with claims that are not done by this process, whose own process must be
        gone."""
        return self.unsettled()[0]

    def unsettled(self) -> tuple[bool, int]:
        """Whether something is `interrupted`, and how many leases drain."""
        count, pending, draining = self._db.row(_UNSETTLED)
        return bool(pending or count > len(self._finished)), draining

    def finish_claims(self, keys: Iterable[EndpointKey]) -> None:
        """These claims, which are on record as `claiming`, are done. The next transaction writes that they are
        attached; if this process ends before, whoever writes next finishes them again, which does no harm."""
        self._finished.update(keys)

    def claims_left(self) -> tuple[Endpoint, ...]:
        """The endpoints that are `claiming`, and whose claim was not done by this process."""
        return tuple(endpoint for endpoint in self.endpoints("claiming") if endpoint.key not in self._finished)

    def count(self) -> int:
        """How many endpoints there are, in any phase."""
        return int(self._db.row("SELECT count(*) FROM endpoints")[0])

    def members_count(self) -> int:
        """How many of these somebody asked for who is not root."""
        length, end = -len(MEMBERS), MEMBERS
        return int(self._db.row("SELECT count(*) FROM endpoints WHERE substr(body, ?) = ?", (length, end))[0])

    def pooled(self, most: int = -1) -> tuple[Endpoint, ...]:
        """Those that stand ready, the oldest first, and no more than so many."""
        rows = self._db.rows(f"SELECT body FROM endpoints {_POOLED} ORDER BY container_id LIMIT ?", (most,))
        return tuple(decode_endpoint(row[0]) for row in rows)

    def claimable(self, key: EndpointKey, tenant: str) -> tuple[Endpoint, int | None] | None:
        """For a claim of this key by a tenant that asks for nothing else: the oldest that stands ready, and `number_of`
        the tenant. None where none does, the key is on record or the tenant has a policy. All in one question: of four
        most is the asking."""
        row = self._db.row(_CLAIMABLE, (tenant, key.container_id, key.ifname))
        if row is None:
            return None
        return decode_endpoint(row[0]), None if row[1] is None else decode_tenant_number(row[1])

    def pooled_count(self) -> int:
        """How many stand ready."""
        return int(self._db.row(f"SELECT count(*) FROM endpoints {_POOLED}")[0])

    def in_netns(self, device: int, inode: int) -> dict[str, EndpointKey]:
        """Who holds each interface of this namespace."""
        rows = self._db.rows(
            "SELECT container_id, ifname FROM endpoints WHERE netns_device = ? AND netns_inode = ?", (device, inode)
        )
        return {row[1]: EndpointKey(row[0], row[1]) for row in rows}

    def mac_holder(self, mac: int) -> EndpointKey | None:
        """Who has this MAC."""
        row = self._db.row("SELECT container_id, ifname FROM endpoints WHERE mac = ?", (mac,))
        return None if row is None else EndpointKey(row[0], row[1])

    def host_link_taken(self, host_link: str) -> bool:
        """Some endpoint has this host link, or had it and its address still drains."""
        row = self._db.row(
            "SELECT 1 FROM endpoints WHERE host_link = ? UNION ALL SELECT 1 FROM draining WHERE host_link = ? LIMIT 1",
            (host_link, host_link),
        )
        return row is not None

    def add_endpoint(self, endpoint: Endpoint, phase: Phase) -> None:
        """Insert an endpoint that is not on record, and its bindings."""
        self._write(_INSERT, endpoint, phase)
        if endpoint.bindings:
            self._insert_bindings(endpoint)

    def write_endpoints(self, endpoints: Sequence[Endpoint], phase: Phase) -> None:
        """Insert or replace endpoints and their bindings. One that is `claiming` does not become `attached` by it."""
        for endpoint in endpoints:
            self._write(_UPSERT, endpoint, phase)
            self._delete_bindings(endpoint.key)
            if endpoint.bindings:
                self._insert_bindings(endpoint)

    def _write(self, statement: str, endpoint: Endpoint, phase: Phase) -> None:
        key = endpoint.key
        self._note(key)
        row = (
            key.container_id,
            key.ifname,
            phase,
            int(endpoint.address4),
            endpoint.mac,
            endpoint.host_link,
            endpoint.netns_device,
            endpoint.netns_inode,
            encode_endpoint(endpoint),
            endpoint.tenant,
        )
        try:
            self._db.run(statement, row)
        except AlreadyExists as error:
            raise Conflict(f"container id: {key}: shares what is unique with another: {error}") from error

    def rename_endpoint(self, former: EndpointKey, endpoint: Endpoint, phase: Phase) -> None:
        """What is on record under a key without bindings is this endpoint's, under its own key."""
        self._note(endpoint.key)
        try:
            self._db.run(
                "UPDATE endpoints SET container_id = ?, ifname = ?, phase = ?, body = ?, tenant = ?"
                " WHERE container_id = ? AND ifname = ?",
                (
                    endpoint.key.container_id,
                    endpoint.key.ifname,
                    phase,
                    encode_endpoint(endpoint),
                    endpoint.tenant,
                    former.container_id,
                    former.ifname,
                ),
            )
        except AlreadyExists as error:
            raise Conflict(f"container id: {endpoint.key}: is on record already: {error}") from error
        if endpoint.bindings:
            self._insert_bindings(endpoint)

    def _insert_bindings(self, endpoint: Endpoint) -> None:
        key = endpoint.key
        self._db.run_each(
            "INSERT INTO bindings VALUES (?, ?, ?, ?, ?, ?)",
            [
                (key.container_id, key.ifname, b.protocol, b.host_port, b.last, str(b.bind or ""))
                for b in endpoint.bindings
            ],
        )

    def finish_attach(self, endpoints: Iterable[Endpoint]) -> None:
        """These, which are on record as `attaching`, are attached as they are by now; their bindings, namespaces and
        addresses are those on record. A page for each index of a column that is written: these two write one."""
        rows = []
        for one in endpoints:
            self._note(one.key)
            rows.append((encode_endpoint(one), one.key.container_id, one.key.ifname))
        self._db.run_each(
            "UPDATE endpoints SET phase = 'attached', body = ? WHERE container_id = ? AND ifname = ?", rows
        )

    def set_phase(self, keys: Iterable[EndpointKey], phase: Phase) -> None:
        """Change the phase of endpoints that are on record, and nothing else of them."""
        rows = []
        for key in keys:
            self._note(key)
            rows.append((phase, key.container_id, key.ifname))
        self._db.run_each("UPDATE endpoints SET phase = ? WHERE container_id = ? AND ifname = ?", rows)

    def delete_endpoints(self, keys: Iterable[EndpointKey]) -> None:
        """Remove endpoints and their bindings; tolerates absence."""
        for key in keys:
            self._note(key)
            self._db.run("DELETE FROM endpoints WHERE container_id = ? AND ifname = ?", (key.container_id, key.ifname))
            self._delete_bindings(key)

    def _delete_bindings(self, key: EndpointKey) -> None:
        self._db.run("DELETE FROM bindings WHERE container_id = ? AND ifname = ?", (key.container_id, key.ifname))

    def binding_holder(self, binding: PortBinding) -> EndpointKey | None:
        """Who holds a binding that overlaps this one."""
        row = self._db.row(
            "SELECT container_id, ifname FROM bindings WHERE protocol = ? AND first <= ? AND last >= ?"
            " AND (bind = '' OR ? = '' OR bind = ?) LIMIT 1",
            (binding.protocol, binding.last, binding.host_port, str(binding.bind or ""), str(binding.bind or "")),
        )
        return None if row is None else EndpointKey(row[0], row[1])

    def published_ports(self) -> dict[str, int]:
        """How many host ports the endpoints of each tenant have, of TCP and UDP together."""
        statement = "SELECT tenant, sum(last - first + 1) FROM bindings JOIN endpoints USING (container_id, ifname)"
        return {row[0]: int(row[1]) for row in self._db.rows(f"{statement} GROUP BY tenant")}

    # -------------------------------------------------------------- leases

    def leased(self) -> Taken:
        """The addresses of all endpoints, as numbers, as they are whenever it is asked."""
        return Addresses(self._db, "endpoints")

    def held(self) -> tuple[int, int]:
        """How many addresses are leased, and how many drain."""
        row = self._db.row("SELECT (SELECT count(*) FROM endpoints), (SELECT count(*) FROM draining)")
        return row[0], row[1]
