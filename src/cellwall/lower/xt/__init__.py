"""iptables: so far the forward path, B9-FORWARD and where it leads, which is what shows that the wall lowers to it.

`tables` is the typed result, `limits` what this mechanism cannot say and what stands in for it, `forward` the lowering.
"""
