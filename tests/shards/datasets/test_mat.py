import io
import random

import numpy as np
import pytest
import scipy.io

from segstream.shards.datasets.mat import read_integers
from segstream.shards.errors import UnreadableError

LABEL = np.arange(600, dtype=np.uint16).reshape(20, 30)


def mat(compressed=True, **values):
    file = io.BytesIO()
    scipy.io.savemat(file, values, do_compression=compressed)
    return file.getvalue()


def test_other_variables_are_passed_over_and_an_empty_list_is_one():
    data = mat(LabelMap=LABEL, note="made by hand", more=np.eye(3))
    assert np.array_equal(read_integers(data, "LabelMap"), LABEL)
    assert read_integers(mat(testIds=np.zeros((0, 1))), "testIds").size == 0
    with pytest.raises(UnreadableError, match="holds no labelmap"):
        read_integers(data, "labelmap")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("text", "not a matrix of numbers"),
        ({"a": 1}, "not a matrix of numbers"),
        (np.zeros((2, 2, 3)), "not a matrix of numbers"),
        (np.full((2, 2), 1.5), "holds fractions"),
        (np.full((2, 2), np.nan), "holds fractions"),
        (np.full((2, 2), -1), "holds negative numbers"),
        (np.full((2, 2), 1j), "not a matrix of numbers"),
    ],
)
def test_what_is_no_label_map(value, reason):
    with pytest.raises(UnreadableError, match=reason):
        read_integers(mat(LabelMap=value), "LabelMap")


def test_two_variables_of_one_name_are_not_a_choice_for_us():
    one, other = mat(LabelMap=LABEL), mat(LabelMap=LABEL[::-1])
    with pytest.raises(UnreadableError, match=r"^[^\n]*2 variables are called LabelMap[^\n]*$"):
        read_integers(one + other[128:], "LabelMap")  # the header has 128 bytes


def test_damage_is_never_a_traceback_nor_a_wrong_label():
    data, rng = mat(LabelMap=LABEL), random.Random(0)
    passed, told = [], []
    for n in range(200):
        broken = bytearray(data)
        if n % 2:
            del broken[rng.randrange(len(data)) :]
        else:  # the compressed element carries a checksum, the 128 bytes before and its tag of 8 do not
            broken[rng.randrange(128, len(data))] ^= 1 << rng.randrange(8)
        try:
            passed.append(np.array_equal(read_integers(bytes(broken), "LabelMap"), LABEL))
        except UnreadableError as error:
            told.append(str(error))
    assert all(passed)
    assert len(told) > 180
    assert all(told)
    assert "\n" not in "".join(told)
