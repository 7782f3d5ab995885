"""Where the wall is met: its base chains. Small, and without the compiler: whoever closes what nobody judges asks."""

from cellwall.ruleset.types import Hook, TableFamily

_PIN = -500  # before everything that bridges: ebtables' nat is at -300, the bridge learns after all prerouting hooks
HOOKS: dict[str, tuple[TableFamily, Hook]] = {
    "frame": ("bridge", Hook("filter", "prerouting", _PIN)),
    "frame-input": ("bridge", Hook("filter", "input", _PIN)),
    "frame-forward": ("bridge", Hook("filter", "forward", _PIN)),
    "frame-output": ("bridge", Hook("filter", "output", _PIN)),
    "loose-arp-in": ("arp", Hook("filter", "input", _PIN)),
    "loose-arp-out": ("arp", Hook("filter", "output", _PIN)),
    "early": ("inet", Hook("filter", "prerouting", -300)),  # raw: before conntrack (-200)
    "tracked": ("inet", Hook("filter", "prerouting", -150)),  # mangle: after conntrack, before every dstnat (-100)
    "input": ("inet", Hook("filter", "input", -10)),
    "output": ("inet", Hook("filter", "output", -10)),
    "forward": ("inet", Hook("filter", "forward", -10)),
    "publish-uplink": ("inet", Hook("nat", "prerouting", -110)),
    "publish-node": ("inet", Hook("nat", "output", -110)),
    "translate": ("inet", Hook("nat", "postrouting", 90)),
}
