import json
import random
from dataclasses import replace

import pytest

from segstream.shards.errors import DataError
from segstream.shards.format.manifest import load_manifest
from tests.shards.shared import edit_manifest


def load(folder):
    return load_manifest((folder / "manifest.json").read_bytes(), where="m")


def test_a_flipped_bit_changes_nothing_that_is_read(ade):
    whole = (ade / "manifest.json").read_bytes()
    manifest, refused = load_manifest(whole, where="m"), 0
    rng = random.Random(0)
    for _ in range(400):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            assert replace(load_manifest(bytes(data), where="m"), digest=manifest.digest) == manifest
        except DataError:
            refused += 1
    assert refused > 390


@pytest.mark.parametrize("text", [" ", '{"version": 1}\n', "reformatted"])
def test_a_manifest_that_changed_says_so(ade, text):
    path = ade / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())) if text == "reformatted" else path.read_text() + text)
    with pytest.raises(DataError, match=r"^m: its digest is not that of its content"):
        load(ade)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (("dataset",), "../../elsewhere", r"manifest.dataset: '../../elsewhere' is not of the form \[A-Za-z"),
        (("dataset",), "/etc", "manifest.dataset"),
        (("dataset",), "\x1b[2J", "manifest.dataset"),
        (("dataset",), "a\n", "manifest.dataset"),
        (("split",), "..", "manifest.split"),
        (("licence",), "a\ud800", "manifest.licence: .* is not of the form"),
        (("taxonomies", "native", "classes", 0), "\x1b[2J", r"manifest.native.classes\[0\]"),
        (("members", 0), "exe", r"manifest.members\[0\]"),
        (("absent",), -1, r"manifest.absent: -1 is not in 0\.\."),
        (("shards", 0, "name"), "/etc/passwd.tar", r"manifest.shards\[0\].name"),
        (("shards", 0, "name"), "shard-000001.tar", "it lists a shard twice"),
        (
            ("shards", 0, "sha256"),
            "/home/me/thesis",
            r"manifest.shards\[0\].sha256: '/home/me/thesis' is not of the form",
        ),
        (("shards", 0, "sha256"), "A" * 64, r"manifest.shards\[0\].sha256"),
        (("shards", 0, "samples"), 1, "its totals are .*'samples': 5.*, those of its shards .*'samples': 4"),
        (("shards", 0, "samples"), True, r"manifest.shards\[0\].samples: expected int, found True"),
        (("shards", 0, "samples"), 500_000_000, r"manifest.shards\[0\].samples: 500000000 is not in 0\.\.4194304"),
        (("shards", 0, "bytes"), 10**30, r"manifest.shards\[0\].bytes"),
        (("taxonomies", "native", "name"), "../x", "manifest.native.name"),
        (("classes", "native", 0, "id"), 150, "it counts class 150 of native, which has 150 classes"),
        (("classes", "native", 0, "pixels"), -5, "manifest.counts.native"),
    ],
)
def test_fields_that_cannot_be_are_refused(ade, at, value, message):
    def change(manifest):
        *parents, last = at
        for key in parents:
            manifest = manifest[key]
        manifest[last] = value

    edit_manifest(ade, change)
    with pytest.raises(DataError, match=f"^m: .*{message}"):
        load(ade)


def test_more_samples_than_fit_into_the_bytes(ade):
    def change(manifest):
        manifest["shards"][0]["samples"] += 1000
        manifest["totals"]["samples"] += 1000

    edit_manifest(ade, change)
    with pytest.raises(DataError, match=r"shard-000000\.tar: 1002 samples do not fit into \d+ bytes"):
        load(ade)


def test_a_file_of_another_kind_is_not_written_out():
    with pytest.raises(DataError, match=r"^m: not a shard manifest \(UnicodeDecodeError: ") as caught:
        load_manifest(b"\xff" * 100_000, where="m")
    assert len(str(caught.value)) < 400
