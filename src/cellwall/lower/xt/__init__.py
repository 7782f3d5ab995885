"""iptables: the second mechanism that a wall is lowered to, with nothing in `compile` that knows of it.

`wall.lower_wall` is the whole wall as tables and sets, `endpoints.holdings` an endpoint as entries of the sets and
rules of published ports (the hot path), `limits` what this mechanism cannot say and what stands in for it. `tables`
and `sets` render both as text for the restore programs.
"""
