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
        description="Examine the host: privileges, nft, kernel features, settings, links and their MTU, ports, the\n"
        "size of the connection table, other programs' rules. Features are tried in a network namespace that is\n"
        "thrown away; the host's rules are only read. Exit status 10 where an error or a warning is found.",
    )
    doctor.set_defaults(act=_doctor)


def _doctor(invocation: Invocation) -> Outcome:
    from cellwall.config import recorded_mode
    from cellwall.doctor import diagnose, observe, render_findings

    settings = invocation.loaded().settings
    daemon = recorded_mode(invocation.paths) == "daemon"
    silence = ""
    if daemon:
        from cellwall.client.presence import silence_of

        silence = silence_of(invocation.paths.socket)
    findings = diagnose(observe(settings, daemon=daemon, silence=silence), settings)
    matters = any(finding.severity != "note" for finding in findings)
    document = {"ok": not matters, "findings": findings}
    return Outcome(document, render_findings(findings), status=exits.FINDING if matters else exits.DONE)
