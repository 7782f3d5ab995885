"""doctor: whether this host can carry the wall, and what would weaken it."""

from cellwall.cli import exits
from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command


def register(commands: "Commands[Parser]") -> None:
    """Add the commands of this group."""
    doctor = add_command(
        commands,
        "doctor",
        "examine the host: privileges, programs, kernel features, settings",
        description="Examine the host: privileges, nft, kernel features, settings, names of interfaces and ports.\n"
        "Features are tried in a network namespace that is thrown away; the host's rules are only read.\n"
        "Exit status 10 where an error is found.",
    )
    doctor.set_defaults(act=_doctor)


def _doctor(invocation: Invocation) -> Outcome:
    from cellwall.doctor import diagnose, observe, render_findings

    settings = invocation.loaded().settings
    findings = diagnose(observe(settings), settings)
    fatal = any(finding.severity == "error" for finding in findings)
    document = {"ok": not fatal, "findings": findings}
    return Outcome(document, render_findings(findings), status=exits.FINDING if fatal else exits.DONE)
