"""What the search for dead ends finds, and what it takes for none."""

from pathlib import Path

import pytest

from lint.links import findings

MODULE = """
LIMIT: int = 3

class Pool:
    size = 1
    def lease(self): ...

def test_it(): ...
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one page, one module and one test."""
    (tmp_path / "src/cellwall/lab").mkdir(parents=True)
    (tmp_path / "src/cellwall/__init__.py").write_text("__version__ = '1'\n")
    (tmp_path / "src/cellwall/ipam.py").write_text(MODULE)
    (tmp_path / "src/cellwall/lab/__init__.py").write_text("from cellwall.ipam import Pool\n")
    (tmp_path / "src/cellwall/lab/sweep.py").write_text("")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_pool.py").write_text(MODULE)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/other.md").write_text("# Other page\n## What `up` does, once\n")
    (tmp_path / "README.md").write_text("# Read me\n")
    return tmp_path


def found(checkout: Path, text: str) -> list[str]:
    (checkout / "docs/page.md").write_text(text)
    return findings(checkout)


@pytest.mark.parametrize(
    "text",
    [
        "[a](other.md) [b](other.md#what-up-does-once) [c](../README.md) [d](#here) [e](https://e.org/x#y)\n# Here",
        "`ipam.py` `src/cellwall/ipam.py` `lab/` `other.md` `tests/test_pool.py`",
        "`ipam.py::Pool` `ipam.py::Pool::lease` `ipam.py::LIMIT` `tests/test_pool.py::test_it[a b]`",
        "`cellwall.ipam` `cellwall.ipam.Pool` `cellwall.lab` `cellwall.lab.Pool` `cellwall.lab.sweep`",
        "`/etc/gone.py` `cellwall.toml` `net/ipv4` `cellwall up` `linux/net/gone.c` `python gone.py`",
        "```sh\n[x](gone.md) `gone.py`\n```",
    ],
    ids=["links", "paths", "names in files", "modules", "nothing of ours", "fenced"],
)
def test_what_is_there_is_not_reported(checkout: Path, text: str) -> None:
    assert found(checkout, text) == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("[a](gone.md)", "link to gone.md: no such file"),
        ("[a](other.md#gone)", "link to other.md#gone: no such heading"),
        ("[a](#gone)", "link to #gone: no such heading"),
        ("`gone.py`", "gone.py: no such file"),
        ("`lab/gone.py`", "lab/gone.py: no such file"),
        ("`tests/gone/`", "tests/gone/: no such file"),
        ("`tests/test_pool.py::test_gone`", "tests/test_pool.py::test_gone: no such name in the file"),
        ("`ipam.py::Pool::gone`", "ipam.py::Pool::gone: no such name in the file"),
        ("`tests/gone.py::test_it`", "tests/gone.py::test_it: no such file"),
        ("`cellwall.gone`", "cellwall.gone: no such module or name"),
        ("`cellwall.ipam.gone`", "cellwall.ipam.gone: no such module or name"),
    ],
)
def test_what_is_gone_is_reported_with_its_place(checkout: Path, text: str, missing: str) -> None:
    assert found(checkout, f"# Page\n```\nfenced\n```\nsee {text}\n") == [f"docs/page.md:5: {missing}"]


def test_the_first_page_is_judged_too(checkout: Path) -> None:
    (checkout / "README.md").write_text("[a](docs/gone.md)")
    assert findings(checkout) == ["README.md:1: link to docs/gone.md: no such file"]
