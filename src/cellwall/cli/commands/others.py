"""demo, attack, cni install, version: the programs beside the wall. They read their own arguments."""

from contextlib import redirect_stdout
from io import StringIO

from cellwall import __version__
from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command, add_opaque_command


def register(commands: "Commands[Parser]") -> None:
    """Add the commands of this group."""
    demo = add_opaque_command(commands, "demo", "two tenants, servers, egress and attacks in a throw-away lab")
    demo.set_defaults(act=_demo)
    attack = add_opaque_command(commands, "attack", "run the hostile-tenant suite in a throw-away lab")
    attack.set_defaults(act=_attack)
    cni = add_command(commands, "cni", "the CNI plugin")
    actions: Commands[Parser] = cni.add_subparsers(metavar="ACTION", required=True, parser_class=Parser)
    install = add_opaque_command(actions, "install", "put the plugin and a configuration where runtimes look for them")
    install.set_defaults(act=_cni_install)
    add_command(commands, "version", "print the version").set_defaults(act=_version)


def _demo(invocation: Invocation) -> Outcome:
    from cellwall.demo import main

    return Outcome(status=main(_passed_on(invocation, "--json")))


def _attack(invocation: Invocation) -> Outcome:
    from cellwall.attack import main

    return Outcome(status=main(_passed_on(invocation, "--json", "--root")))


def _cni_install(invocation: Invocation) -> Outcome:
    from cellwall.cni.install import main

    arguments = _passed_on(invocation, "--root")
    if not invocation.arguments.json:
        return Outcome(status=main(arguments))
    with redirect_stdout(StringIO()) as said:
        status = main(arguments)
    return Outcome({"report": said.getvalue().splitlines()}, status=status)


def _version(invocation: Invocation) -> Outcome:
    return Outcome({"version": __version__}, f"cellwall {__version__}")


def _passed_on(invocation: Invocation, *shared: str) -> list[str]:
    """The arguments behind the command, and those global options that the program shares."""
    given = invocation.arguments
    passed = []
    if given.json and "--json" in shared:
        passed.append("--json")
    if given.root and "--root" in shared:
        passed += ["--root", given.root]
    return [*passed, *invocation.rest]
