from dataclasses import replace

import pytest

from segstream.shards.codecs.row_blocks import Blocks
from segstream.shards.errors import DataError
from segstream.shards.format.index import (
    Entry,
    ShardIndex,
    Span,
    dump_index,
    index_name,
    load_index,
    member_suffix,
    merge_counts,
)
from segstream.shards.format.left_out import LeftOut

INDEX = ShardIndex(
    shard="shard-000003.tar",
    bytes=10240,
    sha256="ab",
    fingerprint="cd",
    samples=(
        Entry(
            key="a", size_hw=(2, 3), classes=(0, 7), members={"jpg": Span(512, 9, 1), "native.png": Span(1024, 5, 2)}
        ),
        Entry(key="b", size_hw=(1, 1), classes=(), members={}),
    ),
    counts={"native": {0: (5, 1), 7: (1, 1)}},
    left_out=(LeftOut(key="c", path="x/c.jpg", reason="missing file"),),
)


@pytest.mark.parametrize(
    "index", [INDEX, ShardIndex(shard="s", bytes=0, sha256="", fingerprint="", samples=(), counts={}, left_out=())]
)
def test_an_index_survives_its_file(index):
    assert load_index(dump_index(index), where="i") == index
    assert index_name("shard-000003.tar") == "shard-000003.idx.json"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"version": 1}', b"\xff", dump_index(INDEX)[:-20]])
def test_what_is_not_an_index(data):
    with pytest.raises(DataError, match=r"^here: not a shard index"):
        load_index(data, where="here")


def test_an_index_of_another_version():
    with pytest.raises(DataError, match="index version 2, this program reads 1"):
        load_index(dump_index(INDEX).replace(b'"version": 1', b'"version": 2'), where="here")


def test_an_index_from_before_there_were_blocks():
    row = replace(INDEX.samples[0], members={"jpg": Span(512, 9, 1, Blocks(16, (3, 6), (4, 5)))})
    index = replace(INDEX, samples=(row,))
    data = dump_index(index)
    assert load_index(data, where="i") == index
    older = data.replace(b',"blocks":{"jpg":[16,[3,6],[4,5]]}', b"")
    assert older != data
    assert load_index(older, where="i").samples[0].members == {"jpg": Span(512, 9, 1)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"key":"a"', b'"key":"../a"', r"sample '../a': not a key"),
        (b'"key":"a"', b'"key":"/etc/a"', r"sample '/etc/a': not a key"),
        (b'"key":"a"', b'"key":["a"]', r"sample \['a'\]: not a key"),
        (b'"jpg":[512,9,1]', b'"exe":[512,9,1]', "sample a: its size, classes, members and blocks are not all counts"),
        (b'"jpg":[512,9,1]', b'"jpg":[512,-9,1]', "not all counts"),
        (b'"jpg":[512,9,1]', b'"jpg":[512.5,9,1]', "not all counts"),
        (b'"jpg":[512,9,1]', b'"jpg":[512,true,1]', "not all counts"),
        (
            b'"jpg":[512,9,1]',
            b'"jpg":[10232,9,1]',
            "sample a.jpg: 2 x 3 pixels cannot be in bytes 10232 to 10241 of 10240",
        ),
        (b'"size_hw":[2,3]', b'"size_hw":[0,3]', "not all counts"),
        (b'"size_hw":[2,3]', b'"size_hw":[200000,200000]', "200000 x 200000 pixels cannot be in bytes 512 to 521"),
        (b'"classes":[0,7]', b'"classes":[0,"7"]', "not all counts"),
        (b'"classes":[0,7]', b'"classes":[0,9000000000]', "not all counts"),
        (b'"blocks":{}', b'"blocks":{"jpg":[0,[3,6],[4,5]]}', r"sample a.jpg: its blocks are not those of 2 rows"),
        (b'"blocks":{}', b'"blocks":{"jpg":[16,[3,7],[4,5]]}', "its blocks are not those"),
        (b'"blocks":{}', b'"blocks":{"jpg":[16,[3],[4]]}', "its blocks are not those"),
        (b"    5,\n", b'    "5",\n', "its class counts are not all counts"),
        (b'"bytes": 10240', b'"bytes": -1', "index.bytes: -1 is not in"),
        (b'"reason": "missing file"', b'"reason": 5', r"index.left_out\[0\].reason: expected str"),
    ],
)
def test_what_cannot_be_in_a_shard_is_refused(old, new, message):
    data = dump_index(INDEX)
    assert old in data
    with pytest.raises(DataError, match=f"^here: .*{message}"):
        load_index(data.replace(old, new, 1), where="here")


def test_member_names():
    held = {"png": 0, "native.png": 0, "universal-relabeled.png": 0, "json": 0}
    assert member_suffix(held, "image") == "png"
    assert member_suffix(held, "json") == "json"
    assert member_suffix(held, "universal-relabeled") == "universal-relabeled.png"
    assert member_suffix(held, "universal") is None


def test_counts_add_up():
    merged = merge_counts([{"native": {1: (5, 1)}}, {"native": {1: (2, 1), 3: (4, 2)}, "universal": {0: (1, 1)}}])
    assert merged == {"native": {1: (7, 2), 3: (4, 2)}, "universal": {0: (1, 1)}}
