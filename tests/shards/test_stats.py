import io

import numpy as np
import pytest
from PIL import Image

from shards import open_shards
from shards.errors import UsageError
from shards.stats import class_table
from tests.shards.test_convert import members


@pytest.mark.parametrize(("member", "classes"), [("native", 150), ("universal", 194)])
def test_the_table_is_a_count_over_the_labels(ade, member, classes):
    labels = [np.asarray(Image.open(io.BytesIO(d))) for n, d in members(ade).items() if n.endswith(f".{member}.png")]
    table = class_table(open_shards(ade).manifest, member)
    assert [row.id for row in table] == list(range(classes))
    pixels = np.array([(np.stack(labels) == i).sum() for i in range(classes)])
    assert [row.pixels for row in table] == pixels.tolist()
    assert [row.images for row in table] == [sum((label == i).any() for label in labels) for i in range(classes)]
    assert np.allclose([row.share for row in table], pixels / pixels.sum())


def test_a_member_without_classes(ade):
    with pytest.raises(UsageError, match="did you mean 'native'"):
        class_table(open_shards(ade).manifest, "nativ")
