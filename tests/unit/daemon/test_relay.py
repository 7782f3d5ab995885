"""The proxy's own process, over loopback: its bounds, and what it obeys."""

import asyncio
import select
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from ipaddress import ip_address, ip_network

import msgspec
import pytest

from cellwall.daemon.proxy import program
from cellwall.daemon.proxy import relay as module
from cellwall.daemon.proxy.arrivals import LOOPBACK, ask_for_arrivals, came_by
from cellwall.daemon.proxy.clients import Clients
from cellwall.daemon.proxy.connections import HALF_CLOSED, IDLE, OF_ONE, OF_TENANT, Connection, Held
from cellwall.daemon.proxy.relay import Relay, Told
from cellwall.daemon.proxy.shares import PIECES
from cellwall.model.endpoint import PortBinding
from cellwall.model.proxied import ProxyRule, proxy_rules
from scene import endpoint

RULE = ProxyRule(0, 6, "", "127.0.0.1", 0, (), (), connections=2, interfaces=(LOOPBACK,))


class Told6:
    """A relay that is told of one port of ::1, whose server is at 127.0.0.1."""

    def __init__(self, stack: ExitStack) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.stack = stack
        stack.enter_context(self.ours)
        stack.enter_context(theirs)
        self.server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.server.setblocking(False)
        self.listening = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        ask_for_arrivals(self.listening)
        self.relay = Relay(theirs)
        number = self.listening.getsockname()[1]
        self.rule = msgspec.structs.replace(RULE, host_port=number, port=self.server.getsockname()[1])

    def tell(self, told: Told, *fds: int) -> None:
        socket.send_fds(self.ours, [msgspec.json.encode(told)], fds)

    async def serve(self) -> None:
        self.tell(Told("serve", self.rule), self.listening.fileno())
        self.tell(Told("done", number=7))
        self.ours.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(self.ours, 9) == b"7"

    def serve_another(self, tenant: int) -> None:
        """A port of another tenant's; clients come to that one from now on."""
        self.listening = self.stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        ask_for_arrivals(self.listening)
        rule = msgspec.structs.replace(self.rule, host_port=1, tenant=tenant)
        self.tell(Told("serve", rule), self.listening.fileno())

    async def client(self) -> socket.socket:
        one = self.stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, self.listening.getsockname()[:2])
        return one

    async def accepted(self) -> socket.socket:
        one, _ = await asyncio.get_running_loop().sock_accept(self.server)
        self.stack.enter_context(one)
        one.setblocking(False)
        return one


def told(story: Callable[[Told6], Awaitable[None]]) -> None:
    async def run() -> None:
        with ExitStack() as stack:
            made = Told6(stack)
            await made.serve()
            async with asyncio.timeout(20):
                await story(made)
            made.ours.close()
            await asyncio.wait_for(made.relay.over.wait(), 20)

    asyncio.run(run())


async def ended(one: socket.socket) -> bool:
    """Whether it is over: in order, or with a reset."""
    try:
        return await asyncio.get_running_loop().sock_recv(one, 9) == b""
    except ConnectionResetError:
        return True


async def refused(made: Told6) -> bool:
    """Whether a new client is sent away, maybe before it knows that it was connected."""
    try:
        return await ended(await made.client())
    except ConnectionResetError:
        return True


def test_more_connections_than_an_endpoint_has_are_refused_and_others_go_on() -> None:
    async def story(made: Told6) -> None:
        loop = asyncio.get_running_loop()
        first, second = await made.client(), await made.client()
        serving = await made.accepted(), await made.accepted()
        assert await refused(made)
        for one, at in ((first, serving[0]), (second, serving[1])):
            await loop.sock_sendall(one, b"x")
            assert await loop.sock_recv(at, 9) == b"x"
        serving[0].close()
        first.close()
        while made.relay.held.count > 1:
            await asyncio.sleep(0)
        await made.client()
        await made.accepted()

    told(story)


def test_a_server_that_is_not_there_is_a_reset_and_one_that_says_nothing_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(made: Told6) -> None:
        made.tell(Told("serve", msgspec.structs.replace(made.rule, port=1)))
        assert await refused(made)
        monkeypatch.setattr(module, "CONNECT", 0.0)
        made.tell(Told("serve", made.rule))
        assert await refused(made)

    told(story)


def test_who_is_admitted_no_more_is_cut_and_nobody_is_served_at_a_port_that_ended() -> None:
    async def story(made: Told6) -> None:
        client = await made.client()
        at = await made.accepted()
        made.tell(Told("serve", msgspec.structs.replace(made.rule, clients=(("::2/128",),))))
        assert await ended(client) and await ended(at)
        assert await refused(made)
        made.tell(Told("serve", made.rule))
        client = await made.client()
        await made.accepted()
        made.tell(Told("end", made.rule))
        assert await ended(client)
        assert made.relay.held.count == 0

    told(story)


def test_who_was_served_is_cut_and_nobody_else_let_in_from_the_turn_in_which_the_daemon_is_found_gone() -> None:
    async def story(made: Told6) -> None:
        client = await made.client()
        await made.accepted()
        made.ours.close()
        assert await ended(client)
        assert not made.listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), "the test's, and a manager's"
        with pytest.raises(ConnectionRefusedError):
            await made.client()
        with pytest.raises(BlockingIOError):
            made.server.accept()

    told(story)


def test_a_daemon_that_died_before_it_was_answered_is_found_gone_in_that_turn() -> None:
    """Of a proxy that was late it had asked several times."""

    async def story(made: Told6) -> None:
        failed: list[object] = []
        made.relay.loop.set_exception_handler(lambda _, context: failed.append(context))
        for number in range(5):
            made.tell(Told("done", number=number))
        made.ours.close()
        assert made.relay._ports
        made.relay._listen()
        assert not made.relay._ports and made.relay.over.is_set() and not failed

    told(story)


def test_a_port_that_somebody_shut_ends_it_all_for_the_daemon_to_begin_it_anew() -> None:
    """The proxy of the daemon before, which was late, had the same socket."""

    async def story(made: Told6) -> None:
        client = await made.client()
        await made.accepted()
        made.listening.shutdown(socket.SHUT_RDWR)
        assert await ended(client) and made.relay.over.is_set()

    told(story)


def test_a_port_that_the_daemon_ends_and_shuts_ends_no_other() -> None:
    async def story(made: Told6) -> None:
        first = made.listening
        made.serve_another(tenant=9)
        client = await made.client()
        await made.accepted()
        assert made.relay.is_current()
        made.tell(Told("end", made.rule))
        first.shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0.1)
        client.send(b"x")
        assert not made.relay.over.is_set() and len(made.relay._ports) == 1

    told(story)


@pytest.mark.parametrize("how", ["refused", "ended", "daemon gone"])
def test_what_is_half_closed_is_cut_with_the_rest(how: str) -> None:
    """One direction's end was passed on by then, and the other goes on."""

    async def story(made: Told6) -> None:
        loop = asyncio.get_running_loop()
        client = await made.client()
        at = await made.accepted()
        await loop.sock_sendall(client, b"x")
        client.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(at, 9) == b"x" and await loop.sock_recv(at, 9) == b""
        await loop.sock_sendall(at, b"y")
        assert await loop.sock_recv(client, 9) == b"y"
        if how == "refused":
            made.tell(Told("serve", msgspec.structs.replace(made.rule, clients=(("::2/128",),))))
        elif how == "ended":
            made.tell(Told("end", made.rule))
        else:
            made.ours.close()
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(client, 9)

    told(story)


def test_a_message_that_cannot_be_obeyed_ends_it_all_for_what_it_said_may_have_been_who_is_refused() -> None:
    async def story(made: Told6) -> None:
        client = await made.client()
        await made.accepted()
        made.ours.send(b'{"what": "serve", "rule": {"clients": [["2001:db8')
        made.tell(Told("done", number=8))
        assert await ended(client)
        assert made.relay.over.is_set()
        with pytest.raises(BlockingIOError):
            made.ours.recv(9)  # nothing is said to be done

    told(story)


def test_a_port_whose_socket_did_not_arrive_ends_it_all_and_is_not_left_out_in_silence() -> None:
    """The kernel leaves a descriptor out for which there is no room, and tells no error."""

    async def story(made: Told6) -> None:
        made.relay.loop.set_exception_handler(lambda *_: None)
        made.tell(Told("serve", msgspec.structs.replace(made.rule, host_port=1)))
        await asyncio.wait_for(made.relay.over.wait(), 20)

    told(story)


def test_one_that_came_in_the_turn_in_which_its_port_ends_leaves_its_place_to_others() -> None:
    async def story(made: Told6) -> None:
        port = made.relay._ports[made.rule.place]
        client = socket.create_connection(made.listening.getsockname()[:2])
        made.stack.enter_context(client)
        client.setblocking(False)
        port._accept()
        assert made.relay.held.count == 1
        made.relay._obey(Told("end", made.rule), [])
        assert await ended(client)
        one = msgspec.structs.replace(made.rule, connections=1)
        assert made.relay.held.count == 0 and made.relay.held.within_bounds(one)

    told(story)


def has_room(held: Held, rule: ProxyRule) -> bool:
    return held.within_bounds(rule) and held.make_room(rule)


def fill(held: Held, number: int, **of: str | int) -> list[Connection]:
    """So many connections of one tenant, each of an endpoint of its own, of which the first is idle for longest."""
    rules = [msgspec.structs.replace(RULE, target=f"{of}-{n}", **of) for n in range(number)]
    made = [Connection(CLOSED, "::1", rule) for rule in rules]
    for n, (rule, connection) in enumerate(zip(rules, made, strict=True)):
        connection.last += n
        assert has_room(held, rule)
        held.take(connection)
    return made


CLOSED = socket.socket()
CLOSED.close()


@pytest.mark.parametrize(("number", "other", "room"), [
    (2, {}, False), (2, {"target": "127.0.0.2"}, True),
    (4, {"target": "127.0.0.2"}, False), (4, {"target": "127.0.0.2", "tenant": 1}, True),
])  # fmt: skip
def test_an_endpoint_and_a_tenant_have_so_many_connections_whatever_limits_allow(
    number: int, other: dict[str, str | int], room: bool
) -> None:
    held, rule = Held(16), msgspec.structs.replace(RULE, connections=9)
    made = []
    for n in range(number):
        made.append(Connection(CLOSED, "::1", msgspec.structs.replace(rule, target=f"{rule.target}{n // 2 or ''}")))
        held.take(made[-1])
    asked = msgspec.structs.replace(rule, **other)
    assert has_room(held, asked) is room
    held.give_back(made[0])
    assert has_room(held, asked)


def test_where_all_have_as_many_as_there_may_be_who_has_fewer_gets_the_idlest_of_who_has_most() -> None:
    held = Held(16)
    all_of = {tenant: fill(held, 4, tenant=tenant) for tenant in (1, 2, 3, 4)}
    assert not has_room(held, msgspec.structs.replace(RULE, tenant=1))
    fifth = fill(held, 3, tenant=5)
    left = {tenant: [one for one in own if one in held._of_tenants[tenant]] for tenant, own in all_of.items()}
    assert [len(own) for own in left.values()] == [3, 3, 3, 4], "one of each of three"
    assert all(own == all_of[tenant][-len(own) :] for tenant, own in left.items()), "the idlest"
    assert not has_room(held, msgspec.structs.replace(RULE, tenant=5)), "it would be taken back at once"
    assert held.count == 16
    for own in (*all_of.values(), fifth):
        for connection in own:
            held.give_back(connection)  # also those that gave way, once
    assert held.count == 0 and not held._leaving and not held._of_tenants and not held._of_targets


def test_so_many_give_way_at_once_as_there_are_descriptors_for() -> None:
    held = Held(400)
    for tenant in range(4):
        fill(held, 100, tenant=tenant)
    came = fill(held, 16, tenant=9)
    assert not has_room(held, msgspec.structs.replace(RULE, tenant=9))
    held.give_back(next(iter(held._leaving)))
    assert has_room(held, msgspec.structs.replace(RULE, tenant=9)) and len(came) == 16


def test_one_tenant_cannot_have_all_connections_nor_one_endpoint_all_of_its_tenant() -> None:
    assert 1 < OF_TENANT < OF_ONE


def test_one_that_gave_way_is_reset_and_who_came_is_served() -> None:
    async def story(made: Told6) -> None:
        loop, held = asyncio.get_running_loop(), made.relay.held
        held.most = 16
        first = await made.client()
        await made.accepted()
        fill(held, 1, tenant=RULE.tenant)
        for tenant in range(1, 15):
            fill(held, 1, tenant=tenant)
        made.serve_another(tenant=99)
        second = await made.client()
        at = await made.accepted()
        assert await ended(first) and held.count == 16
        await loop.sock_sendall(second, b"x")
        assert await loop.sock_recv(at, 9) == b"x"

    told(story)


def test_one_that_is_late_obeys_before_it_passes_anything_on() -> None:
    """What a stopped process was told meanwhile, it reads a message at a time, beside what its connections have."""

    async def story(made: Told6) -> None:
        loop = asyncio.get_running_loop()
        client, other = await made.client(), await made.client()
        at, _ = await made.accepted(), await made.accepted()
        assert made.relay.is_current()
        made.relay._looked -= module.FRESH
        for number in range(20):
            made.tell(Told("done", number=number))
        made.tell(Told("serve", msgspec.structs.replace(made.rule, clients=(("::2/128",),))))
        client.send(b"x")
        assert await ended(at) and await ended(client) and await ended(other)
        made.tell(Told("serve", made.rule))
        for number in range(20):
            made.tell(Told("done", number=number))
        made.relay._looked -= module.FRESH
        client = await made.client()
        at = await made.accepted()
        made.relay._looked -= module.FRESH
        await loop.sock_sendall(client, b"x")
        assert await loop.sock_recv(at, 9) == b"x", "and then it goes on"

    told(story)


def test_who_comes_to_one_that_is_late_is_judged_by_what_it_is_told_by_then() -> None:
    async def story(made: Told6) -> None:
        made.relay._looked -= module.FRESH
        for number in range(20):
            made.tell(Told("done", number=number))
        made.tell(Told("serve", msgspec.structs.replace(made.rule, clients=(("::2/128",),))))
        assert await refused(made)
        with pytest.raises(BlockingIOError):
            made.server.accept()

    told(story)


def test_what_is_told_does_not_wait_for_a_turn_of_the_traffic_each() -> None:
    """A turn is long where much is passed on, and a tenant has 64 ports."""

    async def story(made: Told6) -> None:
        for number in range(64):
            made.tell(Told("done", number=number))
        for _ in range(4):
            await asyncio.sleep(0)
        assert [int(made.ours.recv(9)) for _ in range(64)] == list(range(64))

    told(story)


def test_a_tenant_with_much_to_pass_on_has_a_share_of_each_turn_and_others_theirs() -> None:
    """Connections that never wait would leave nobody a turn."""

    async def story(made: Told6) -> None:
        loop, much = asyncio.get_running_loop(), bytes(1 << 18)
        made.rule = msgspec.structs.replace(made.rule, connections=99)
        made.tell(Told("serve", made.rule))
        clients = [await made.client() for _ in range(8)]
        taking = [await made.accepted() for _ in range(8)]
        made.serve_another(tenant=9)
        light = await made.client()
        at = await made.accepted()
        sent = sum(client.send(much) for client in clients)
        light.send(b"x")
        assert await loop.sock_recv(at, 9) == b"x"
        passed = sum(len(one.recv(1 << 22, socket.MSG_PEEK)) for one in taking if readable(one))
        assert passed <= 2 * PIECES * module._OCTETS < sent, "of two turns at most"
        got = 0
        while got < sent:
            got += sum(len(one.recv(1 << 22)) for one in taking if readable(one))
            await asyncio.sleep(0)

    told(story)


def readable(one: socket.socket) -> bool:
    return bool(select.select([one], [], [], 0)[0])


def test_the_daemon_waits_for_longer_than_the_proxy_goes_without_a_look() -> None:
    assert module.FRESH < program.PATIENCE < program.SILENT


def test_connections_that_say_nothing_are_overdue_and_half_closed_ones_sooner() -> None:
    connection = Connection(CLOSED, "::1", RULE)
    now = time.monotonic()
    assert not connection.overdue(now + IDLE - 1) and connection.overdue(now + IDLE + 1)
    connection.ended = 1
    assert not connection.overdue(now + HALF_CLOSED - 1) and connection.overdue(now + HALF_CLOSED + 1)


@pytest.mark.parametrize(("clients", "denied", "client", "admitted"), [
    ((), (), "2001:db8::1", True), ((), (), "192.0.2.1", False), ((), ("2001:db8::/64",), "2001:db8::1", False),
    ((("2001:db8::/64",),), (), "2001:db8::1", True), ((("2001:db8::/64",), ()), (), "2001:db8::1", False),
    ((("2001:db8::/64",), ("2001:db8::2/128",)), (), "2001:db8::1", False),
])  # fmt: skip
def test_a_client_is_in_every_list_and_in_none_that_is_denied(
    clients: tuple[tuple[str, ...], ...], denied: tuple[str, ...], client: str, admitted: bool
) -> None:
    assert Clients(msgspec.structs.replace(RULE, clients=clients, denied=denied)).admits(client) is admitted


def test_networks_of_every_length_have_what_python_says_they_have() -> None:
    texts = ("2001:db8::/32", "2001:db9:8000::/33", "2001:dba::1/128", "fe80::/10")
    clients = ("2001:db8:ffff::1", "2001:db9::1", "2001:db9:8000::1", "2001:dba::1", "2001:dba::2", "febf::", "fec0::")
    admits = Clients(msgspec.structs.replace(RULE, clients=(texts,))).admits
    for client in clients:
        assert admits(client) is any(ip_address(client) in ip_network(text) for text in texts)
    assert Clients(msgspec.structs.replace(RULE, clients=(("::/0",),))).admits("::1")


def test_a_rule_leads_to_the_endpoint_itself_and_to_nothing_else() -> None:
    bindings = (PortBinding("tcp", 8080, 80, proxy=6), PortBinding("tcp", 8081, 81, proxy=4), PortBinding("tcp", 1, 1))
    web = msgspec.structs.replace(endpoint("web", 2), bindings=bindings)
    first, second = proxy_rules([web], (), 9)
    assert (first.family, first.target, first.port) == (6, str(web.address4), 80)
    assert (second.family, second.target, second.port) == (4, str(web.address6), 81)
    without = msgspec.structs.replace(web, address6=None)
    assert [rule.family for rule in proxy_rules([without], (), 9)] == [6]


@pytest.mark.parametrize(("address", "family"), [("::", 6), ("0.0.0.0", 4), ("::", 4)])
def test_by_which_interface_a_connection_came_is_told(address: str, family: int) -> None:
    own = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(own, socket.SOCK_STREAM) as listening:
        if own == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((address, 0))
        ask_for_arrivals(listening)
        listening.listen()
        at = ("::1" if family == 6 else "127.0.0.1", listening.getsockname()[1])
        with socket.create_connection(at, 5) as client:
            connection, _ = listening.accept()
            with connection:
                assert came_by(connection) == LOOPBACK
                assert came_by(client) == 0, "who has not asked is not told"
