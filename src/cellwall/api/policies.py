"""The verbs of policies: of tenants and of endpoints.

The engine's part is imported by the first of them: most processes ask nothing about policies.
"""

from collections.abc import Sequence

from cellwall.api.opened import Opened
from cellwall.engine.arguments import Document, parse_subject, permissions_patch
from cellwall.model.policy import Policy, PolicyRecord


class PolicyVerbs(Opened):
    """What `Wall` does with policies."""

    def set_policy(
        self,
        policy: Policy | Document,
        *,
        tenant: str = "",
        container: str = "",
        ifname: str = "eth0",
        member: bool = False,
    ) -> PolicyRecord:
        """Replace the policy of a tenant, with endpoints or without, or of an attached endpoint: it is in force when
        this returns, for open flows, too. Idempotent. InvalidSpec names the place, of a document as a JSON pointer;
        NotFound for a container that is not attached. What fails leaves the policy before in force. `member`: for
        somebody who is not root, of whose policies the rules have room for fewer."""
        from cellwall.engine.policies.calls import set_policy

        return set_policy(self._caller, parse_subject(tenant, container, ifname), policy, member=member)

    def patch_policy(
        self, patch: Document, *, tenant: str = "", container: str = "", ifname: str = "eth0", member: bool = False
    ) -> PolicyRecord:
        """`set_policy` of what a JSON merge patch (RFC 7396) makes of the policy in force."""
        from cellwall.engine.policies.calls import patch_policy

        return patch_policy(self._caller, parse_subject(tenant, container, ifname), patch, member=member)

    def update_network_permissions(
        self,
        container: str,
        *,
        block_network: bool = False,
        allow_list: Sequence[str] | None = None,
        ifname: str = "eth0",
    ) -> PolicyRecord:
        """Replace what an endpoint may open by nothing, by these networks or, with neither, by all that its tenant may;
        what else its policy says stays."""
        patch = permissions_patch(block_network=block_network, allow_list=allow_list)
        return self.patch_policy(patch, container=container, ifname=ifname)

    def remove_policy(self, *, tenant: str = "", container: str = "", ifname: str = "eth0") -> bool:
        """Nothing but the floor and the other tier holds when this returns; False where there was none."""
        from cellwall.engine.policies.calls import remove_policy

        return remove_policy(self._caller, parse_subject(tenant, container, ifname))

    def policy(self, *, tenant: str = "", container: str = "", ifname: str = "eth0") -> PolicyRecord | None:
        """The policy in force; None of a tenant that has none. NotFound for a container that is not attached."""
        from cellwall.engine.policies.calls import policy_of

        return policy_of(self._caller, parse_subject(tenant, container, ifname))

    def policy_sizes(self) -> dict[str, int]:
        """How many octets the policy of each tenant has on record: for who bounds what is kept for others."""
        from cellwall.engine.policies.calls import policy_sizes

        return policy_sizes(self._caller)

    def policies(self) -> dict[str, PolicyRecord]:
        """The policies of all tenants that have one, by tenant."""
        from cellwall.engine.policies.calls import policies_of_tenants

        return policies_of_tenants(self._caller)
