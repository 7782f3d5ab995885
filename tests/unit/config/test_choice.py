"""The subnets that a conflist chose: on record for this boot, whole or not at all."""

from pathlib import Path

import pytest

from cellwall.config import paths_for
from cellwall.config.choice import read_choice, write_choice
from cellwall.errors import InvalidSpec

CHOSEN = {"network.subnet4": "10.88.0.0/16", "network.gateway4": "10.88.0.1"}


def test_what_was_chosen_is_read_again_and_the_last_choice_counts(tmp_path: Path) -> None:
    paths = paths_for(tmp_path)
    assert read_choice(paths) == {}
    Path(paths.run).mkdir(parents=True)
    assert read_choice(paths) == {}
    write_choice(paths, {"network.subnet4": "10.0.0.0/8"})
    write_choice(paths, CHOSEN)
    write_choice(paths, CHOSEN)
    assert read_choice(paths) == CHOSEN
    assert len(list(Path(paths.run).iterdir())) == 1  # no draft is left


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"network.subnet4": 4}'])
def test_a_damaged_record_is_refused_and_not_taken_for_none(tmp_path: Path, body: bytes) -> None:
    paths = paths_for(tmp_path)
    Path(paths.run).mkdir(parents=True)
    write_choice(paths, CHOSEN)
    (record,) = Path(paths.run).iterdir()
    record.write_bytes(body)
    with pytest.raises(InvalidSpec, match="is not a record of settings"):
        read_choice(paths)
