"""Whose a flow is: the number of its tenant, noted on it when it begins, in both families."""

import msgspec
import pytest

from cellwall.lab import addresses as at
from cellwall.lower.nft.elements import differing_content, endpoint_elements
from cellwall.lower.nft.families import FAMILIES
from cellwall.model.pool import pooled_key
from cellwall.model.versions import first_version, tenant_label
from scene import FOUR, GATEWAY4, GATEWAY6, NODE_BIT, PUBLIC4, PUBLIC6, SCENE, WEB, Fate, Scene, endpoint


def number_of(fate: Fate) -> int:
    flow = fate.evaluation.context.flow
    assert flow is not None
    return flow.label


@pytest.mark.parametrize("to", [PUBLIC4, PUBLIC6])
def test_what_a_sandbox_opens_is_its_tenants_whatever_becomes_of_it(to: str) -> None:
    assert number_of(SCENE.egress(WEB, to)) == tenant_label(WEB.tenant_number)


@pytest.mark.parametrize(
    "to", ["10.0.0.5", "fc00:9::9", "192.168.0.3", "fd00:abcd::3", GATEWAY4, GATEWAY6, at.NODE4, at.NODE6]
)
def test_so_is_what_is_denied(to: str) -> None:
    fate = SCENE.egress(WEB, to)
    assert (fate.verdict, number_of(fate)) == ("reject", tenant_label(WEB.tenant_number))


@pytest.mark.parametrize(("client", "node"), [("151.101.1.69", at.NODE4), ("2a04:4e42::1", at.NODE6)])
def test_what_a_client_opens_is_the_tenants_that_published_the_port(client: str, node: str) -> None:
    fate = SCENE.ingress(client, node)
    assert (fate.verdict, number_of(fate)) == ("accept", tenant_label(WEB.tenant_number))


def test_endpoints_of_one_tenant_have_one_number_in_both_families() -> None:
    second = endpoint("second", 4, tenant_number=WEB.tenant_number)
    scene = Scene(WEB, second)
    assert {number_of(scene.egress(one, to)) for one in (WEB, second) for to in (PUBLIC4, PUBLIC6)} == {
        tenant_label(WEB.tenant_number)
    }


def test_a_number_is_an_element_of_each_family_that_the_endpoint_has() -> None:
    for one, families in ((WEB, FAMILIES), (FOUR, FAMILIES[:1])):
        numbers = [(name, element.data) for _, name, element in endpoint_elements(one) if name.startswith("tenant")]
        assert numbers == [("tenant" + family.suffix, (tenant_label(one.tenant_number),)) for family in families]


def test_one_that_stands_ready_is_nobodys_until_it_is_claimed_and_all_else_is_there() -> None:
    ready = msgspec.structs.replace(WEB, key=pooled_key(7))
    gone, come = differing_content(ready, WEB)
    assert gone == []
    assert [name for _, name, _ in come] == ["tenant" + family.suffix for family in FAMILIES]
    assert {*endpoint_elements(ready), *come} == {*endpoint_elements(WEB)}


def test_a_number_outlives_the_policy_version_that_it_was_taken_from() -> None:
    renewed = endpoint("web", 2, generation=first_version(2000, NODE_BIT), past=(WEB.generation,))
    assert number_of(Scene(renewed).egress(renewed, PUBLIC4)) == tenant_label(WEB.tenant_number) != renewed.generation
