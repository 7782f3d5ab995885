"""Policies of tenants over a boot: taken over into the journal of a new one, and kept for the next.

What is in force is the journal's. What is not kept yet is on record there too, so a death, or a full disk, between the
two is made good by whoever comes next. An operation that only closes is kept from nothing by a disk that is full.
"""

import logging

import msgspec

from cellwall.engine.site import Site
from cellwall.errors import CellwallError

_log = logging.getLogger("cellwall")
_NUMBER = "policy_generation"  # the last one given; that there is one says that this boot has taken policies over
_UNKEPT = "unkept_policies"


def take_over_policies(site: Site) -> None:
    """Have the policies of tenants on record that an earlier boot set; once a boot. Conflict where they cannot be read:
    an endpoint is never up with less than its policy."""
    if taken_over(site):
        return
    policies, latest = site.kept().read()
    with site.journal.transaction():
        for tenant, known in policies.items():
            site.journal.policies.write(tenant, known)
        site.journal.put(_NUMBER, str(latest).encode())


def taken_over(site: Site) -> bool:
    """The journal knows the policies of tenants."""
    return site.journal.get(_NUMBER) is not None


def next_policy_generation(site: Site) -> int:
    """A number that no policy of a tenant had before, in the caller's transaction."""
    number = int(site.journal.get(_NUMBER) or b"0") + 1
    site.journal.put(_NUMBER, str(number).encode())
    return number


def note_unkept(site: Site, tenant: str) -> None:
    """Its policy on record differs from what is kept, in the caller's transaction."""
    tenants = {*unkept_policies(site), tenant}
    site.journal.put(_UNKEPT, msgspec.json.encode(sorted(tenants)))


def unkept_policies(site: Site) -> tuple[str, ...]:
    """The tenants whose policies in force would be others after a boot."""
    return msgspec.json.decode(site.journal.get(_UNKEPT) or b"[]", type=tuple[str, ...])


def keep_policies(site: Site) -> None:
    """Keep what is on record of them. Idempotent."""
    tenants = unkept_policies(site)
    if not tenants:
        return
    latest = int(site.journal.get(_NUMBER) or b"0")
    site.kept().write({tenant: site.journal.policies.get(tenant) for tenant in tenants}, latest)
    with site.journal.transaction():
        site.journal.drop(_UNKEPT)


def try_to_keep_policies(site: Site) -> tuple[str, ...]:
    """The same, for who has something else to do; whose were kept. What fails is said, and tried again by the next."""
    tenants = unkept_policies(site)
    try:
        keep_policies(site)
    except CellwallError as error:
        _log.warning("policies of %s are not kept for the next boot: %s", ", ".join(tenants), error)
        return ()
    return tenants
