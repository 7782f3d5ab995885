"""What a caller may ask for, by who it is."""

import pytest

from cellwall.daemon.authority import Authority, Granted, Peer
from cellwall.engine.requests import AttachRequest
from cellwall.errors import Conflict, Forbidden, Taken
from cellwall.model.endpoint import PortBinding
from cellwall.model.grants import parse_grant
from cellwall.model.policy import Policy
from cellwall.wire.calls import CALLS

ROOT, MEMBER, BOTH, STRANGER = Peer(0), Peer(1000, frozenset({50})), Peer(1001, frozenset({50, 60})), Peer(1002)
BINDING = PortBinding("tcp", 8080, 80)


def authority(*texts: str) -> Authority:
    grants = [parse_grant(text, "daemon.allow") for text in texts]
    return Authority(Granted(int(grant.group), grant) for grant in grants)


GRANTS = authority("50 attach,list ci-*,nightly", "60 expose,detach,attach web")


def test_root_may_do_anything_and_whoever_connects_may_ask_for_the_version() -> None:
    for call in CALLS:
        GRANTS.permit(ROOT, call.verb, "anybody")
        assert GRANTS.allows(STRANGER, call.verb) == (call.verb == "version")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_member_may_do_what_its_group_is_granted_and_nothing_of_the_node(call: object) -> None:
    verb = call.verb  # type: ignore[attr-defined]
    assert GRANTS.allows(MEMBER, verb, "nightly") == (verb in ("attach", "list", "version"))
    everything = authority("50 attach,detach,expose,list,check,policy,log,metrics *")
    assert everything.allows(MEMBER, verb, "x") == (verb not in ("node", "status"))


def test_a_verb_of_one_group_is_no_verb_for_the_tenants_of_another() -> None:
    assert GRANTS.allows(BOTH, "expose", "web")
    assert not GRANTS.allows(BOTH, "expose", "nightly")
    assert not GRANTS.allows(BOTH, "list", "web")
    with pytest.raises(Forbidden, match=r"expose for tenant nightly: uid 1001 .* may not \(daemon\.allow\)"):
        GRANTS.permit(BOTH, "expose", "nightly")


def test_a_member_attaches_for_its_tenants_only_and_in_namespaces_of_its_own() -> None:
    (admitted,) = GRANTS.admit(MEMBER, [AttachRequest("a", tenant="ci-1")])
    assert admitted.user == MEMBER.uid
    for refused in (AttachRequest("a", tenant="web"), AttachRequest("ci-1"), AttachRequest("nightly")):
        with pytest.raises(Forbidden):
            GRANTS.admit(MEMBER, [AttachRequest("b", tenant="ci-1"), refused])


def test_a_port_in_an_attach_asks_for_what_publishing_one_does() -> None:
    with pytest.raises(Forbidden, match="expose"):
        GRANTS.admit(MEMBER, [AttachRequest("a", tenant="ci-1", bindings=(BINDING,))])
    GRANTS.admit(BOTH, [AttachRequest("a", tenant="web", bindings=(BINDING,))])


def test_a_policy_in_an_attach_asks_for_the_right_to_write_one() -> None:
    asked = [AttachRequest("a", tenant="ci-1", policy=Policy(mode="block"))]
    with pytest.raises(Forbidden, match="policy"):
        GRANTS.admit(MEMBER, asked)
    authority("50 attach,policy ci-*").admit(MEMBER, asked)


def test_what_root_asks_for_is_left_as_it_is() -> None:
    asked = AttachRequest("a", bindings=(BINDING,))
    assert authority().admit(ROOT, [asked]) == (asked,)


def test_only_root_is_told_whose_a_port_is() -> None:
    error = Taken("expose.host_port: 80:80", "is taken by", "secret")
    assert GRANTS.told(ROOT, error) is error
    told = GRANTS.told(MEMBER, error)
    assert (type(told), str(told)) == (Conflict, "expose.host_port: 80:80: is taken by another container")
    other = Conflict("something else")
    assert GRANTS.told(MEMBER, other) is other


def test_other_grants_hold_from_then_on() -> None:
    asked = authority("50 list a")
    asked.regrant([])
    assert not asked.allows(MEMBER, "list", "a")
