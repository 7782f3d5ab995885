"""Under the bounds that its unit sets the daemon does all that it is for. Of these a test can set the capabilities."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.lab import Lab
from daemon.served import Daemon, ask_as, namespace_of

pytestmark = pytest.mark.root
UNIT = Path(__file__).parents[2] / "packaging/systemd/cellwall-daemon.service"
CI, SOCKET, MEMBER = 5000, 5002, 1000
CONFIGURATION = f"""
backend = "{{}}"
[daemon]
group = "{SOCKET}"
allow = ["{CI} attach,expose,check ci-*"]
metrics = "127.0.0.1:947"
"""


def bounded() -> list[str]:
    """What starts a program with the capabilities of the unit, and no way to more."""
    lines = [line for line in UNIT.read_text().splitlines() if line.startswith("CapabilityBoundingSet=")]
    granted = " ".join(line.partition("=")[2] for line in lines).split()
    names = [f"+{name.removeprefix('CAP_').lower()}" for name in granted]
    return ["setpriv", f"--bounding-set=-all,{','.join(names)}", "--inh-caps=-all", "--no-new-privs", "--"]


@pytest.fixture(params=["nftables", "iptables"])
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with Lab() as lab, lab.node.enter():
        os.chmod(lab.root, 0o755)
        daemon = Daemon(lab, configuration=CONFIGURATION.format(request.param))
        daemon.prefix = bounded()
        try:
            yield daemon.start()
        finally:
            daemon.close()


def test_with_the_units_capabilities_it_does_what_it_is_for(daemon: Daemon) -> None:
    assert daemon.ask("POST", "/v1/up").status == 200
    daemon.attach("web", expose=["443:80", "444:80/tcp6to4"])
    assert daemon.ask("PUT", "/v1/reservations/next", {"count": 2}).status == 200
    with namespace_of(MEMBER) as netns:
        body = {"container": "job", "tenant": "ci-1", "netns": netns, "expose": ["8080:80"]}
        assert ask_as(daemon, MEMBER, [CI, SOCKET], "POST", "/v1/endpoints", body).status == 201
        asked = ask_as(daemon, MEMBER, [CI, SOCKET], "GET", "/v1/endpoints/job/eth0/findings")
        assert asked.document == {"findings": []}
        assert daemon.get("/v1/status")["drift"] == []
        daemon.kill()
        daemon.start()
        assert daemon.attached() == {"web", "job"}
        listening = daemon.lab.node.run(["ss", "-Hltn"]).text
        assert ":444 " in listening and "127.0.0.1:947 " in listening, listening
        assert daemon.ask("POST", "/v1/down", {"force": True}).status == 200
    assert daemon.stop() == 0
    assert "error" not in daemon.log.read_text() and "denied" not in daemon.log.read_text()
