"""The proxy between address families, in a process of its own: no tenant's traffic takes a turn of the daemon's.

`python -m cellwall.daemon.proxy.relay`, with the daemon's socket as its standard input, over which it is told what to
serve: a message for each port, with the socket that listens there. It connects to the addresses that it is told, and to
nothing else, and reads nothing of what it passes on. It has no privilege: what it needs was opened before.

Owns: the loop, time without an octet, half-closed connections, and that a client which is not admitted any more is cut,
also by one that is told late. How many there are of whom is of `connections`, whose turn it is of `shares`.
"""

import asyncio
import errno
import os
import resource
import socket
import struct
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Literal

import msgspec

from cellwall.daemon.proxy.arrivals import came_by
from cellwall.daemon.proxy.clients import Clients
from cellwall.daemon.proxy.connections import OF_ONE, Connection, Held
from cellwall.daemon.proxy.shares import Shares
from cellwall.model.proxied import MAX_CARRIED, MAX_PROXIES, Place, ProxyRule

CONNECT = 3.0
"""Seconds for the server to answer."""
FRESH = 1.0
"""Seconds that the proxy goes by what it was told without a look for more: it is less than the daemon waits for it to
obey (`cellwall.daemon.proxy.program`), so one that is late passes nothing on that it was meanwhile told not to."""
_LOOK = 5.0
_MOMENT = 0.005
_AT_ONCE = 16
"""Of a turn, the seconds in which it is obeyed what is told, and how many clients a port takes."""
_OCTETS = 1 << 15
_LARGEST = 1 << 20
_OWN = 64
"""Descriptors beside those of ports and connections."""
_RESET = struct.pack("=ii", 1, 0)  # struct linger: a reset in place of an orderly end
_NOBODY = 65534


class Told(msgspec.Struct, frozen=True):
    """One message: serve this `rule`, with the listening socket that comes along where it is another one; or serve
    its place no longer; or answer with `number` once all before it is done."""

    what: Literal["serve", "end", "done"]
    rule: ProxyRule | None = None
    number: int = 0


class Port:
    """One proxied port."""

    def __init__(self, rule: ProxyRule, listening: socket.socket, relay: "Relay") -> None:
        self.rule = rule
        self.listening = listening
        self._clients = Clients(rule)
        self._relay = relay
        self.connections: set[Connection] = set()
        listening.setblocking(False)
        relay.loop.add_reader(listening, self._accept)

    def judge(self, rule: ProxyRule) -> None:
        """Go by this from now on; who is not admitted by it, or led elsewhere by now, is cut."""
        moved = (rule.target, rule.port) != (self.rule.target, self.rule.port)
        self.rule, self._clients = rule, Clients(rule)
        for connection in list(self.connections):
            if moved or not self._clients.admits(connection.address):
                connection.cut()

    def end(self) -> None:
        """Serve nobody any more."""
        self._relay.loop.remove_reader(self.listening)
        self.listening.close()
        for connection in list(self.connections):
            connection.cut()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            # Asked again in the loop's next turn, in which more is obeyed, and the tenant has a share again.
            if not self._relay.is_current() or not self._relay.shares.take(self.rule.tenant):
                return
            try:
                client, peer = self.listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno == errno.EINVAL:
                    self._relay.was_shut()
                else:  # no descriptor or memory: whoever is served goes on
                    self._relay.pause(self)
                return
            address = _plain(peer)
            if not self._takes(client, address):
                _reset(client)
                continue
            connection = Connection(client, address, self.rule)
            self.connections.add(connection)
            self._relay.held.take(connection)
            connection.task = self._relay.loop.create_task(self._serve(connection))
            # Not at the end of what the task does: one that is cut before its first step does nothing.
            connection.task.add_done_callback(partial(self._close, connection))

    def _takes(self, client: socket.socket, address: str) -> bool:
        held = self._relay.held
        return held.within_bounds(self.rule) and self._admits(client, address) and held.make_room(self.rule)

    def _admits(self, client: socket.socket, address: str) -> bool:
        own = _plain(client.getsockname())
        if self.rule.bind and own != self.rule.bind:  # a held port listens at every address
            return False
        # The node's own connection to itself came, to the kernel, by the interface that has the address. From outside
        # nobody comes with that very address: the answer to the first packet would not leave.
        inside = own == address or came_by(client) in self.rule.interfaces
        return inside and self._clients.admits(address)

    async def _serve(self, connection: Connection) -> None:
        try:
            await self._relayed(connection)
            connection.whole = True
        except* OSError:  # one of them is gone, or too late
            pass

    def _close(self, connection: Connection, _: asyncio.Task[None]) -> None:
        self.connections.discard(connection)
        for one in (connection.client, connection.server):
            if one is not None:
                one.close() if connection.whole else _reset(one)
        self._relay.held.give_back(connection)

    async def _relayed(self, connection: Connection) -> None:
        """Until both sides said their last."""
        loop, rule = self._relay.loop, self.rule
        family = socket.AF_INET if rule.family == 6 else socket.AF_INET6
        client, server = connection.client, socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.server = server
        for one in (client, server):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(CONNECT):
            await loop.sock_connect(server, (rule.target, rule.port))
        async with asyncio.TaskGroup() as both:
            both.create_task(_pass_on(self._relay, connection, client, server))
            both.create_task(_pass_on(self._relay, connection, server, client))


class Relay:
    """All ports, and what is told of them; `most` connections at once."""

    def __init__(self, told: socket.socket, most: int = MAX_CARRIED) -> None:
        self.loop = asyncio.get_running_loop()
        self.held = Held(most)
        self.shares = Shares(self.loop)
        self.over = asyncio.Event()
        self._told = told
        self._looked = 0.0
        self._nothing_left = asyncio.Event()
        self._ports: dict[Place, Port] = {}
        self._decode = msgspec.json.Decoder(Told).decode
        told.setblocking(False)
        self.loop.add_reader(told, self._listen)

    def pause(self, port: Port) -> None:
        """Accept nothing there for a moment."""
        self.loop.remove_reader(port.listening)
        self.loop.call_later(1.0, self._go_on, port)

    def was_shut(self) -> None:
        """A port listens no more. By the daemon's doing there is word of it; else the proxy of the one before was late
        and had the same socket, and the daemon begins all anew where this one ends."""
        self._looked = 0.0
        if self.is_current():
            self._end()

    def is_current(self) -> bool:
        """Whether all was obeyed that the daemon had told by now, or by a moment ago."""
        now = time.monotonic()
        if now - self._looked < FRESH:
            return True
        try:
            self._told.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._looked = now
            self._nothing_left.set()
            return True
        except OSError:  # the daemon has ended
            pass
        return False

    async def obeyed(self) -> None:
        """Wait until `is_current`."""
        while not self.is_current():
            self._nothing_left.clear()
            await self._nothing_left.wait()

    async def look(self) -> None:
        """Cut what says nothing for too long, until the daemon is gone."""
        while not self.over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), _LOOK)
            now = time.monotonic()
            for port in self._ports.values():
                for connection in list(port.connections):
                    if connection.overdue(now):
                        connection.cut()

    def _end(self) -> None:
        """Hear nothing more and serve nobody, from now on: to take leave of the loop takes turns, in which others are
        let in and served."""
        self.loop.remove_reader(self._told)
        while self._ports:
            port = self._ports.popitem()[1]
            with suppress(OSError):  # a service manager may keep the socket, and clients would wait at it for nobody
                port.listening.shutdown(socket.SHUT_RDWR)
            port.end()
        self.over.set()

    def _go_on(self, port: Port) -> None:
        if self._ports.get(port.rule.place) is port:
            self.loop.add_reader(port.listening, port._accept)

    def _listen(self) -> None:
        """Obey for a moment of each turn: who is served goes on between the lists of a tenant with many ports."""
        until = time.monotonic() + _MOMENT
        while self._hear() and time.monotonic() < until:
            pass
        if not self._nothing_left.is_set():  # somebody may be waiting
            self.is_current()

    def _hear(self) -> bool:
        """Obey one message, if there is one."""
        try:
            raw, fds, _, _ = socket.recv_fds(self._told, _LARGEST, 1)
        except BlockingIOError:
            return False
        except OSError:
            raw, fds = b"", []
        if not raw:  # the daemon has ended, and what it told with it
            self._end()
            return False
        try:
            self._obey(self._decode(raw), fds)
        except BaseException:  # it may have said who is refused from now on
            self._end()
            raise
        return True

    def _obey(self, told: Told, fds: list[int]) -> None:
        if told.what == "done":
            with suppress(OSError):  # one that did not hear so many answers asks again, one that is gone hears none
                self._told.send(str(told.number).encode())
            return
        assert told.rule is not None
        place = told.rule.place
        known = self._ports.get(place)
        if told.what == "end" or fds:
            if known is not None:
                self._ports.pop(place).end()
            if fds:
                self._ports[place] = Port(told.rule, socket.socket(fileno=fds[0]), self)
        elif known is not None:
            known.judge(told.rule)
        else:
            raise OSError(errno.EMFILE, "the socket of a port did not arrive")


async def _pass_on(relay: Relay, connection: Connection, source: socket.socket, sink: socket.socket) -> None:
    """All of one direction. Nothing is read that was not taken on the other side; its end is passed on, too."""
    while data := await relay.loop.sock_recv(source, _OCTETS):
        connection.last = time.monotonic()
        if not relay.shares.take(connection.tenant):
            await relay.shares.wait(connection.tenant)
        if not relay.is_current():
            await relay.obeyed()
        await relay.loop.sock_sendall(sink, data)
    connection.ended += 1
    connection.last = time.monotonic()
    sink.shutdown(socket.SHUT_WR)


def _plain(name: tuple[str | int, ...]) -> str:
    """The address of a socket's name, one of IPv4 as such."""
    return str(name[0]).removeprefix("::ffff:").partition("%")[0]


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    one.close()


def _carried() -> int:
    """How many connections there may be descriptors for: two each."""
    own = MAX_PROXIES + _OWN
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 2 * MAX_CARRIED + own
    most = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return max((most - own) // 2, OF_ONE)


def _without_privilege() -> None:
    """As nobody where that may be, and without capabilities in any case; with what others leave of processor and
    memory. Nobody need be able to read where Python lies, as below root's home: whatever is needed is here before."""
    import ctypes

    os.nice(5)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("0")  # the daemon's own is among the last to be ended where memory is short
    with suppress(PermissionError):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # linux/capability.h, version 3
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


async def _run(told: socket.socket, most: int) -> None:
    await Relay(told, most).look()


def main() -> None:
    """Serve until the daemon is gone."""
    told, most = socket.socket(fileno=os.dup(0)), _carried()
    _without_privilege()
    asyncio.run(_run(told, most))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
