import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from segstream.model.distributed import ProcessGroup
from segstream.model.evaluation.resume_log import resume_log
from segstream.shards.errors import DataError

BLANKS = [[np.zeros((3, 3), np.int64), np.zeros((2, 3), np.int64)], [np.zeros((300, 300), np.int64)]]
IDENTITY = {"checkpoint": "ab", "scales": [0.5, 1.0], "data": {"a": 1}}


def counts(number: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 9, blank.shape) * (rng.random(blank.shape) < 0.2) for blank in BLANKS[number]]


class Rank(ProcessGroup):
    """One of several processes, of which only this one runs."""

    def from_main(self, make):
        return make()

    def barrier(self):
        pass


def opened(folder: Path, *, rank: int = 0, restart_changed: bool = False, **changes: object):
    ranks = Rank(rank=rank, world_size=2)
    return resume_log(folder, IDENTITY | changes, len(BLANKS), ranks, restart_changed=restart_changed)


def noted_in(folder: Path) -> dict:
    """By (set, sample) the matrices that are noted there."""
    found = {}
    with opened(folder) as logs:
        for log in logs:
            for sample, matrices in log.done.items():
                found[log.number, sample] = [blank.copy() for blank in BLANKS[log.number]]
                for dense, (at, pixels) in zip(found[log.number, sample], matrices, strict=True):
                    dense.ravel()[at] = pixels
    return found


def same(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for place, matrices in expected.items():
        assert [m.tolist() for m in found[place]] == [m.tolist() for m in matrices]


@pytest.fixture
def noted(tmp_path: Path) -> tuple[Path, dict]:
    """A log of two processes that a third evaluation went on with."""
    places = [(0, 4), (1, 0), (0, 0), (0, 7)]
    expected = {place: counts(place[0], i) for i, place in enumerate(places)}
    for rank, mine in ((0, places[:2]), (1, places[2:3]), (0, places[3:])):
        with opened(tmp_path, rank=rank) as logs:
            for number, sample in mine:
                logs[number].add(sample, expected[number, sample])
    return tmp_path, expected


def test_what_every_process_noted_is_read_back(noted: tuple[Path, dict]) -> None:
    folder, expected = noted
    same(noted_in(folder), expected)
    shutil.rmtree(folder)
    assert not folder.exists()


def test_a_cut_at_any_byte_loses_the_cut_image_and_no_other(noted: tuple[Path, dict], tmp_path_factory) -> None:
    folder, expected = noted
    whole = (folder / "rank-00000.jsonl").read_bytes()
    last = whole.rindex(b"\n")
    del expected[0, 7]
    for end in range(last, len(whole), 3):
        copy = tmp_path_factory.mktemp("cut") / "log"
        shutil.copytree(folder, copy)
        (copy / "rank-00000.jsonl").write_bytes(whole[:end])
        same(noted_in(copy), expected)
        with opened(copy) as logs:
            logs[0].add(9, counts(0, 9))  # what is noted after the cut is not glued to its rest
        same(noted_in(copy), expected | {(0, 9): counts(0, 9)})


def test_a_flipped_bit_is_work_not_done(noted: tuple[Path, dict]) -> None:
    folder, expected = noted
    path = folder / "rank-00000.jsonl"
    data = bytearray(path.read_bytes())
    data[12] ^= 1  # in the first line
    path.write_bytes(data)
    del expected[0, 4]
    same(noted_in(folder), expected)


def test_another_evaluation_is_refused_by_name_or_forgotten_if_asked(noted: tuple[Path, dict]) -> None:
    folder, _ = noted
    refusal = r"another, unfinished evaluation: scales is \[0\.5, 1\.0\], this run has \[1\.0\]"
    with pytest.raises(DataError, match=refusal), opened(folder, scales=[1.0]):
        pass
    assert len(noted_in(folder)) == 4
    with opened(folder, scales=[1.0], restart_changed=True) as logs:
        assert not any(log.done for log in logs)
        assert json.loads((folder / "identity.json").read_text()) == IDENTITY | {"scales": [1.0]}
