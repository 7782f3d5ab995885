"""A peer's node with many containers, without waiting hours for it to attach them.

Their own attach takes up to a second at this size, so the crowd is made in the way their attaches leave it: as many
veths on their bridge, as many address files in host-local's pool, and, of the rules, exact copies of what they wrote
for one real container with other addresses, names and chains, loaded through the same iptables. The containers' ends of
the veths share one namespace, in which nobody speaks: the node's side, which is what an attach meets, is the same.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha512
from pathlib import Path

from cellwall.lab import Host, Lab

_FIRST = 4096  # 10.88.16.0: far from the addresses that the contestant's own pool gives next


def add_crowd(lab: Lab, bridge: str, count: int) -> None:
    """`count` veths on `bridge`, up on both ends."""
    crowd = lab.sandbox(f"crowd-{bridge}")
    # A thousand links that come up within a second would ask each other for duplicates of their addresses: millions
    # of frames that containers attached over hours never send at once, and that no attach could be measured beside.
    crowd.run(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"])
    links = [
        f"link add veth{number:08x} master {bridge} up type veth peer name e{number} netns {crowd.netns.name}"
        for number in range(count)
    ]
    lab.node.ip(links, timeout=60)
    crowd.ip((f"link set e{number} up" for number in range(count)), timeout=60)


def multiply_rules(node: Host, name: str, addresses: Sequence[str], count: int) -> None:
    """Load `count` copies of every iptables rule and chain that belongs to container `name`."""
    for tool, address in zip(("iptables", "ip6tables"), addresses, strict=True):
        saved = node.run([f"{tool}-save"]).text.splitlines()
        chains = sorted(
            {word for line in saved for word in line.split() if word.startswith("CNI-") and len(word) == 28}
        )
        text = "\n".join(copied_rules(saved, name, address, chains, count))
        node.run([f"{tool}-restore", "--noflush"], input=text.encode(), timeout=60)


def populate_ipam(directory: Path, count: int) -> None:
    """host-local's files: one per address, in it the container and the interface."""
    for number in range(count):
        for version in (4, 6):
            (directory / _address(version, number)).write_text(f"crowd{number}\r\neth0")


def copied_rules(saved: Sequence[str], name: str, address: str, chains: Sequence[str], count: int) -> Iterator[str]:
    """The lines that load `count` copies of what `saved` has for the container `name` at `address`."""
    version = 6 if ":" in address else 4
    for table, lines in _by_table(saved):
        own = [line for line in lines if address in line.replace("/", " ").split() or any(c in line for c in chains)]
        yield f"*{table}"
        for number in range(count):
            for line in own:
                yield _renamed(line, name, f"crowd{number}", chains).replace(address, _address(version, number))
        yield "COMMIT"


def _by_table(saved: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    table, lines = "", list[str]()
    for line in saved:
        if line.startswith("*"):
            table, lines = line[1:], []
        elif line == "COMMIT":
            # Chains before rules, or a rule would jump to one that is not there yet.
            yield table, sorted(lines, key=lambda entry: not entry.startswith(":"))
        elif line.startswith((":CNI-", "-A")):
            lines.append(line)


def _renamed(line: str, name: str, other: str, chains: Sequence[str]) -> str:
    for chain in chains:
        line = line.replace(chain, f"CNI-{sha512(f'{other}{chain}'.encode()).hexdigest()[:24]}")
    return line.replace(f'\\"{name}\\"', f'\\"{other}\\"')


def _address(version: int, number: int) -> str:
    host = _FIRST + number
    return f"10.88.{host >> 8}.{host & 255}" if version == 4 else f"fd00:88::{host:x}"
