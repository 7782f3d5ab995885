"""The examples of docs/http.md, as they are printed, against a daemon."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cellwall.wire.calls import CALLS
from cellwall.wire.problems import CallProblem
from served import open_served

PAGE = Path(__file__).parents[2].joinpath("docs/http.md").read_text()
OF_THE_RUN = {"netns", "host_index", "netns_device", "netns_inode", "generation", "tenant_number"}


def examples() -> list[tuple[str, str]]:
    (block,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    parts = [part.partition("\n") for part in block.removeprefix("$ ").split("\n$ ")]
    return [(command, printed) for command, _, printed in parts]


def plain(value: Any) -> Any:
    """Without what differs from run to run."""
    if isinstance(value, dict):
        return {name: "" if name in OF_THE_RUN else plain(item) for name, item in value.items()}
    return value


@pytest.mark.root
def test_the_examples_answer_as_printed() -> None:
    (define, nothing), *others = examples()
    assert not nothing.strip()
    assert len(others) > 5
    with open_served() as served:
        define = define.replace("/run/cellwall-api/cellwall.sock", served.path)
        for command, printed in others:
            done = subprocess.run(["bash", "-c", f"{define}\n{command}"], capture_output=True, text=True, check=True)
            if printed.startswith("{"):
                assert plain(json.loads(done.stdout)) == plain(json.loads(printed)), command
            else:
                assert done.stdout.strip() == printed.strip(), command


def test_every_call_and_every_problem_is_on_the_page() -> None:
    rows = [line.partition(" | ")[0] for line in PAGE.replace("`, `/v1", "`, `POST /v1").splitlines()]
    for call in CALLS:
        place = re.compile(re.escape(call.path) + "[`?]")
        assert any(place.search(row) and f"`{call.method}" in row for row in rows), call.name
    for name in CallProblem.__args__:  # type: ignore[attr-defined]
        assert f"`{name}`" in PAGE, name
