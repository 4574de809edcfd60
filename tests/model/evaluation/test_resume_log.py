import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from segstream.model.evaluation.resume_log import Journal, claimed, read_journal, remove
from segstream.shards.errors import DataError

BLANKS = [[np.zeros((3, 3), np.int64), np.zeros((2, 3), np.int64)], [np.zeros((300, 300), np.int64)]]
IDENTITY = {"checkpoint": "ab", "scales": [0.5, 1.0], "data": {"a": 1}}


def counts(number: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 9, blank.shape) * (rng.random(blank.shape) < 0.2) for blank in BLANKS[number]]


def same(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for place, matrices in expected.items():
        assert [m.tolist() for m in found[place]] == [m.tolist() for m in matrices]


@pytest.fixture
def noted(tmp_path: Path) -> tuple[Path, dict]:
    """A journal of two processes that a third evaluation went on with."""
    places = [(0, 4), (1, 0), (0, 0), (0, 7)]
    expected = {place: counts(place[0], i) for i, place in enumerate(places)}
    for rank, mine in ((0, places[:2]), (1, places[2:3]), (0, places[3:])):
        with claimed(tmp_path, IDENTITY, restart_changed=False), Journal(tmp_path, rank) as journal:
            for place in mine:
                journal.note(place, expected[place])
    return tmp_path, expected


def test_what_every_process_noted_is_read_back(noted: tuple[Path, dict]) -> None:
    folder, expected = noted
    same(read_journal(folder, BLANKS), expected)
    remove(folder)
    assert not folder.exists()


def test_a_cut_at_any_byte_loses_the_cut_image_and_no_other(noted: tuple[Path, dict], tmp_path_factory) -> None:
    folder, expected = noted
    whole = (folder / "rank-00000.jsonl").read_bytes()
    last = whole.rindex(b"\n")
    del expected[0, 7]
    for end in range(last, len(whole), 3):
        copy = tmp_path_factory.mktemp("cut") / "journal"
        shutil.copytree(folder, copy)
        (copy / "rank-00000.jsonl").write_bytes(whole[:end])
        same(read_journal(copy, BLANKS), expected)
        with Journal(copy, 0) as journal:  # what is noted after the cut is not glued to its rest
            journal.note((0, 9), counts(0, 9))
        same(read_journal(copy, BLANKS), expected | {(0, 9): counts(0, 9)})


def test_a_flipped_bit_is_work_not_done(noted: tuple[Path, dict]) -> None:
    folder, expected = noted
    path = folder / "rank-00000.jsonl"
    data = bytearray(path.read_bytes())
    data[12] ^= 1  # in the first line
    path.write_bytes(data)
    del expected[0, 4]
    same(read_journal(folder, BLANKS), expected)


def test_another_evaluation_is_refused_by_name_or_forgotten_if_asked(noted: tuple[Path, dict]) -> None:
    folder, _ = noted
    other = IDENTITY | {"scales": [1.0]}
    refusal = r"another, unfinished evaluation: scales is \[0\.5, 1\.0\], this run has \[1\.0\]"
    with pytest.raises(DataError, match=refusal), claimed(folder, other, restart_changed=False):
        pass
    assert len(read_journal(folder, BLANKS)) == 4
    with claimed(folder, other, restart_changed=True):
        assert read_journal(folder, BLANKS) == {}
        assert json.loads((folder / "identity.json").read_text()) == other


def test_two_commands_do_not_write_at_once(tmp_path: Path) -> None:
    with (
        claimed(tmp_path, IDENTITY, restart_changed=False),
        pytest.raises(DataError, match="another process is writing"),
        claimed(tmp_path, IDENTITY, restart_changed=False),
    ):
        pass
