"""Dead ends in the documentation: links, headings, files, modules and tests that are named and are not there.

Judged are the pages of docs/ and README.md: relative links with their headings, and what stands in code spans as a
path (`compile/pins.py`, `tests/reference/test_pure.py::test_private_network_blocking`) or as a module
(`cellwall.lab.sweep`). Paths are looked for from the root of the checkout, from src/cellwall and beside the page.
Fenced blocks are somebody's shell or program and are left alone, as is what starts with `/`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ +(.*?)#* *$", re.MULTILINE)
_PATH = re.compile(r"([\w.-]+(?:/[\w.-]+)*/?)(?:::([\w.:]+))?(?:\[.*\])?")
_MODULE = re.compile(r"cellwall(?:\.[a-z_]\w*)+(?:\.\w+)?")
_NO_MODULE = (".toml", ".service", ".conflist")
_ELSEWHERE = ("http://", "https://", "mailto:")


def findings(root: Path) -> list[str]:
    """One line a dead end: page, line, what is missing."""
    pages = [*sorted((root / "docs").glob("*.md")), root / "README.md"]
    return [
        f"{page.relative_to(root)}:{number}: {what}"
        for page in pages
        for number, what in sorted(set(_page(root, page)))
    ]


def _page(root: Path, page: Path) -> Iterator[tuple[int, str]]:
    # Fenced lines are emptied, not removed: what follows keeps its number.
    text = _FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), page.read_text())
    for match in _LINK.finditer(text):
        if not match[1].startswith(_ELSEWHERE) and (what := _dead_link(page, match[1])):
            yield text.count("\n", 0, match.start()) + 1, what
    for match in _CODE.finditer(text):
        if what := _dead_name(root, page, match[1]):
            yield text.count("\n", 0, match.start()) + 1, what


def _dead_link(page: Path, target: str) -> str:
    name, _, anchor = target.partition("#")
    path = page.parent / name if name else page
    if not path.exists():
        return f"link to {target}: no such file"
    if anchor and anchor not in {_anchor(heading) for heading in _HEADING.findall(path.read_text())}:
        return f"link to {target}: no such heading"
    return ""


def _anchor(heading: str) -> str:
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")


def _dead_name(root: Path, page: Path, code: str) -> str:
    package = root / "src" / "cellwall"
    if _MODULE.fullmatch(code) and not code.endswith(_NO_MODULE):
        return "" if _module_has(package, code.split(".")[1:]) else f"{code}: no such module or name"
    match = _PATH.fullmatch(code)
    if match is None or not _means_a_path(root, package, match[1]):
        return ""
    found = [path for base in (root, package, page.parent) if (path := base / match[1]).exists()]
    if not found:
        return f"{code}: no such file"
    wanted = match[2].split("::") if match[2] else []
    return "" if not wanted or any(_defines(path, wanted) for path in found) else f"{code}: no such name in the file"


def _means_a_path(root: Path, package: Path, text: str) -> bool:
    """A Python file, or below a directory of ours; `net/ipv4` and `sandbox/eth0` are neither."""
    head, slash, _ = text.partition("/")
    return text.endswith(".py") or (slash != "" and any((base / head).is_dir() for base in (root, package)))


def _module_has(package: Path, parts: list[str]) -> bool:
    path = package
    for number, part in enumerate(parts):
        if (path / part).is_dir():
            path /= part
            continue
        module = path / f"{part}.py"
        rest = parts[number + 1 :] if module.exists() else parts[number:]
        return not rest or _defines(module if module.exists() else path / "__init__.py", rest)
    return True


def _defines(path: Path, names: list[str]) -> bool:
    """Whether a module has this function, class or constant, or a class of it this member."""
    if path.suffix != ".py" or not path.exists():
        return False
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for name in names:
        node = next((node for node in body if name in _names(node)), None)
        if node is None:
            return False
        body = node.body if isinstance(node, ast.ClassDef) else []
    return True


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return set()


def main() -> int:
    """Exit status 1 and one line a finding."""
    found = findings(ROOT)
    print("\n".join(found) or "no dead links")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
