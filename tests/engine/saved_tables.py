"""What the tables of iptables hold on a node, and what others have there."""

from world import World

FAMILIES = ("iptables", "ip6tables")
OTHERS = """*filter
:FORWARD ACCEPT [0:0]
:OTHER - [0:0]
:B9-USER - [0:0]
-A FORWARD -j OTHER
-A FORWARD -p tcp -j B9-USER
-A INPUT -j B9-USER
-A B9-USER -p tcp -m tcp --dport 83 -j DROP
-A OTHER -i br-other -j DROP
-A OTHER -j RETURN
-A INPUT -p tcp -m tcp --dport 81 -m comment --comment "see -j B9-INPUT" -j ACCEPT
-A INPUT -p tcp -m tcp --dport 82 -m comment --comment "old: -g B9-x y" -j DROP
COMMIT
*nat
:OTHER-NAT - [0:0]
-A PREROUTING -p tcp -m tcp --dport 7 -j OTHER-NAT
COMMIT
"""


def variant(world: World) -> str:
    return world.wall.settings.iptables


def saved(world: World, name: str = "") -> dict[tuple[str, str], list[str]]:
    """Every table of either family without its counters."""
    found: dict[tuple[str, str], list[str]] = {}
    for family in FAMILIES:
        lines: list[str] = []
        for line in world.lab.node.run([f"{family}-{name or variant(world)}-save"]).text.splitlines():
            if line.startswith("*"):
                lines = found.setdefault((family, line), [])
            elif line[:1] in "-:":
                lines.append(line.split(" [")[0])
    return found


def rules(world: World) -> int:
    return sum(line.startswith("-A B9-") for lines in saved(world).values() for line in lines)
