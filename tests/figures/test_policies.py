"""The lists that policies are measured with are what their figures say they are."""

from ipaddress import ip_address

import pytest
from bench.policies import list_of_addresses, list_of_lengths

from cellwall.compile.policy_forms import policy_usage
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.policy import Policy, Tiers, decide


@pytest.mark.parametrize("count", [8, 32])
def test_the_server_is_on_the_last_of_as_many_lists_in_each_family(count: int) -> None:
    policy = list_of_lengths(count)
    forms = policy_usage([Tiers(policy)]).forms
    for server in (ip_address(PUBLIC4[2]), ip_address(PUBLIC6[2])):
        lengths = [form.prefixlen for form in forms if form.family == server.version]
        assert lengths == list(range(server.max_prefixlen - count + 1, server.max_prefixlen + 1))
        assert decide(Tiers(policy), server, "tcp", 80).verdict == "allow"
        others = tuple(rule for rule in policy.rules if rule.prefix.prefixlen != server.max_prefixlen)
        assert decide(Tiers(Policy("allow", others)), server, "tcp", 80).verdict == "deny"


def test_a_list_of_rules_has_as_many_and_another_last_one() -> None:
    one, other = set(list_of_addresses(1000).rules), set(list_of_addresses(1000, last=1).rules)
    assert (len(one), len(other), len(one - other)) == (1000, 1000, 1)
