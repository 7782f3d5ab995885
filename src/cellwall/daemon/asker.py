"""Who asks, and what there is for them: what is somebody else's is not there, in the words in which nothing is."""

import msgspec

from cellwall.api import Wall
from cellwall.daemon.authority import NO_GROUP, Authority, Peer
from cellwall.daemon.turns.lines import ROOT, Whose
from cellwall.errors import NotFound
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.wire.calls import Verb


class Asker(msgspec.Struct, frozen=True):
    """Who asks, and what says what they may."""

    peer: Peer
    authority: Authority

    @property
    def user(self) -> int | None:
        """The uid, where that is not root: of who has a share of what there is, and no more."""
        return None if self.peer.root else self.peer.uid

    @property
    def whose(self) -> Whose:
        """In whose line its calls wait: who is granted anything by several groups is in the first one's."""
        groups = self.authority.groups_of(self.peer)
        return ROOT if self.peer.root else Whose(min(groups, default=NO_GROUP), self.peer.uid)

    def sees(self, verb: Verb, endpoint: Endpoint) -> bool:
        """Whether the endpoint is there for them, to do this with."""
        return self.sees_tenant(verb, endpoint.tenant)

    def sees_tenant(self, verb: Verb, tenant: str) -> bool:
        """Whether what is of this tenant is there for them, to do this with."""
        return self.peer.root or self.authority.allows(self.peer, verb, tenant)

    def find(self, wall: Wall, verb: Verb, key: EndpointKey) -> Endpoint:
        """The endpoint, where it is there for them; NotFound, and in the same words, where it is not there at all."""
        endpoint = found(wall, key)
        if endpoint is None or not self.sees(verb, endpoint):
            raise NotFound(f"container id: {key}: is not attached")
        return endpoint

    def may_close(self, wall: Wall, key: EndpointKey) -> bool:
        """What is half attached, or half closed, is root's to finish."""
        if self.peer.root:
            return True
        endpoint = found(wall, key)
        return endpoint is not None and self.sees("detach", endpoint)


def found(wall: Wall, key: EndpointKey) -> Endpoint | None:
    """The attached endpoint, if there is one."""
    try:
        return wall.endpoint(key.container_id, ifname=key.ifname)
    except NotFound:
        return None
