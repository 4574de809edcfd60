import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext

from segstream.shards.format.keys import escape, key_of, unescape

PATHS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(PATHS, min_size=1, max_size=3).map("/".join))
def test_escaping_can_be_undone_and_is_what_webdataset_takes_for_a_key(path):
    key = escape(path)
    assert unescape(key) == path
    assert re.fullmatch(r"[A-Za-z0-9_/%-]+", key)
    assert base_plus_ext(f"{key}.native.png") == (key, "native.png")
    assert not re.match(r"__[^/]*__($|/)", key)  # webdataset would skip it


@given(PATHS, PATHS)
def test_different_paths_have_different_keys(one, other):
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("ADE_train_00000001.jpg", "ADE_train_00000001"),
        ("aachen/aachen_000_leftImg8bit.png", "aachen/aachen_000_leftImg8bit"),
        ("frame.01.png", "frame%2E01"),
        ("v1.2/a b.jpg", "v1%2E2/a%20b"),
        ("-1_é%.jpg", "-1_%C3%A9%25"),
        ("__meta__/x.png", "%5F_meta__/x"),
        ("noextension", "noextension"),
        (".hidden", "%2Ehidden"),
    ],
)
def test_keys_of_paths(path, key):
    assert key_of(path) == key
