"""What iptables cannot say, and what stands in for it. Data: whoever compiles, diagnoses or attacks reads it here.

A predicate that is neither lowered nor listed raises Unsupported. A clause with a listed predicate is left out, which
is right for two kinds only: clauses that accept (what is left is stricter), and denials whose substitute holds.
"""

from cellwall.compile import wall as w

SUBSTITUTES: dict[type[w.Predicate], str] = {
    w.LiveFlow: "no shortcut: every packet walks the policy, which costs a constant number of set lookups",
    w.OrphanFlow: "flows of a former endpoint are deleted from conntrack before its address is free",
    w.OwnError: "ICMP errors from sandboxes are dropped: whose flow they quote cannot be matched",
}
