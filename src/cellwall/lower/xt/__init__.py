"""iptables: the seam of a second backend. No command and no adapter loads what is made here; tests alone read it.

It is the forward path, B9-FORWARD and where it leads, and shows that the wall is lowered to another mechanism without
any change to `compile`: goldens hold its text, and iptables-restore itself takes it.

`tables` is the typed result, `limits` what this mechanism cannot say and what stands in for it, `forward` the lowering.
"""
