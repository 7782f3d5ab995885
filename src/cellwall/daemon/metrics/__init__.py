"""What a platform watches of a node, for Prometheus.

Owns: what is counted of calls as they happen; totals that never go back, out of figures of the kernel that begin anew
with every link and every rule; the bound on how many tenants are told apart; and the text of `GET /metrics`.

Refuses: to wait for who writes, or to have them wait. Figures are read beside them, on a thread of their own.
"""
