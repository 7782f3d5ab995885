"""Who looks for something in the layers that lie in folders finds each of them in the page about the architecture."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/architecture.md").read_text()


@pytest.mark.parametrize("layer", ["adapters", "engine", "daemon", "lower"])
def test_every_folder_of_a_layer_is_in_the_page(layer: str) -> None:
    folders = [path.parent.name for path in (REPOSITORY / "src/cellwall" / layer).glob("*/__init__.py")]
    assert folders
    assert [name for name in sorted(folders) if f"`{layer}/{name}" not in PAGE] == []
