"""What iptables cannot say, and what stands in for it. Data: whoever compiles, diagnoses or attacks reads it here.

What is neither lowered nor listed raises Unsupported. A clause with a listed predicate or outcome is left out, which
is right for two kinds only: clauses that accept (what is left is stricter), and denials whose substitute holds.
"""

from cellwall.compile import wall as w

SUBSTITUTES: dict[type[w.Predicate | w.Outcome], str] = {
    w.LiveFlow: "no shortcut: every packet walks the policy, which costs a constant number of set lookups",
    w.OrphanFlow: "flows of a former endpoint are deleted from conntrack before its address is free",
    w.ForgetSoon: "the node's own conntrack timeouts: the CT target sets others in the raw table only",
    w.OwnError: "ICMP errors from sandboxes are dropped: whose flow they quote cannot be matched",
}
