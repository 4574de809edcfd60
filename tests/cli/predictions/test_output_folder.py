"""Outputs of `predict`: labels come back as they were written, under any name that a file may have."""

import numpy as np
import pytest

from segstream.cli.predictions.output_folder import read_label, write_label
from segstream.shards.errors import DataError


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_label_comes_back_under_a_name_that_is_not_utf8(tmp_path, kind):
    ids = np.arange(6, dtype=kind).reshape(2, 3) * 40
    write_label(tmp_path / "caf\udce9.png", ids)
    found = read_label(tmp_path / "caf\udce9.png")
    assert (found.dtype, found.tolist()) == (kind, ids.tolist())


@pytest.mark.parametrize("content", [b"", b"no PNG", None])
def test_what_is_no_label_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"/a\.png: not a label map"):
        read_label(tmp_path / "a.png")
