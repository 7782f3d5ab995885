"""Mail straight to others' servers, which is closed unless somebody says so: what one tenant sends ruins the name of
the node's address for all of them, and clouds close it as well.

Port 25 alone, where servers take mail of anybody's. Where mail is handed in (465, 587) the sender has an account there
that answers for it.

Three things open it. `limits.smtp` to everybody; a rule of a policy that names the port, to whom the policy is for and
where all of their policies let them; and an exception of the floor or a service of the node, that is: a relay.
"""

from cellwall.compile.policy_words import Fresh, MailTransfer
from cellwall.compile.predicates import Flow, Predicate
from cellwall.compile.usage import PolicyUsage
from cellwall.compile.wall import (
    Clause,
    Continue,
    Count,
    Stage,
    Unstamp,
)
from cellwall.model.settings import Mail

_WHY = "mail to a server"
_UNSENT = "unsent"


def refuse_mail(mail: Mail, policies: PolicyUsage) -> tuple[Clause, ...]:
    """What is asked of a flow that a sandbox opens, before it is stamped."""
    return _refused(mail, policies, Flow(("new",)), Clause((), Continue("deny"), _WHY, "FWD"))


def refuse_stamped_mail(mail: Mail, policies: PolicyUsage) -> tuple[Clause, ...]:
    """The same of one that is stamped first."""
    return _refused(mail, policies, Fresh(), Clause((), Continue(_UNSENT)))


def unsent_stages(mail: Mail) -> tuple[Stage, ...]:
    """Where a flow that is stamped ends."""
    if mail != "closed":
        return ()
    return (Stage(_UNSENT, (Clause((), Unstamp()), Clause((), Continue("deny"), _WHY, "FWD"))),)


def _refused(mail: Mail, policies: PolicyUsage, begins: Predicate, closed: Clause) -> tuple[Clause, ...]:
    """`begins`: of which flows one is counted here that is only watched."""
    to_a_server = MailTransfer(listed=policies.mail)
    if mail == "closed":
        return (Clause((to_a_server,), closed.then, closed.why, closed.layer),)
    if mail == "watched":
        return (Clause((begins, to_a_server), Count(), f"{_WHY}, which is only watched", "FWD"),)
    return ()
