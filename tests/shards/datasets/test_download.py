"""Downloads from a server on this machine that cuts, refuses, ignores and changes; nothing waits."""

import hashlib
import io
import json
import socket
import tarfile
import zipfile
from dataclasses import replace

import pytest

from segstream.shards.datasets import download as downloads
from segstream.shards.datasets.check import check_release
from segstream.shards.datasets.download import download, unpack
from segstream.shards.datasets.layout import split_list
from segstream.shards.datasets.registry import Archive, Facts, dataset, registry
from segstream.shards.datasets.release import Release
from segstream.shards.errors import DataError, UsageError
from segstream.shards.storage.remote import Retries
from tests.shards.servers import serving

BODY = bytes(range(256)) * 40  # of the file x/a.bin
DATE = "Mon, 02 Jan 2017 03:04:05 GMT"


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def tarred(entries, mode="w"):
    """Of (name, content), or (name, (type, target)) for what is no file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            else:
                info.type, info.linkname = content
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


WHOLE, OTHER = zipped({"x/a.bin": BODY, "y/b.bin": b"b"}), zipped({"x/a.bin": BODY[::-1]})


@pytest.fixture
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "file.zip").write_bytes(WHOLE)
    with serving(folder, headers={"ETag": '"one"', "Last-Modified": DATE}) as running:
        yield running


@pytest.fixture
def waits():
    return []


@pytest.fixture
def fetch(server, tmp_path, monkeypatch, waits):
    """Downloads what archives a registry of the test's own has."""

    def run(*archives, **known):
        one = {"name": "file.zip", "url": f"{server.url}/file.zip", "unpack": {"x/": "images/"}} | known
        archives = archives or (Archive(**one),)
        facts = Facts(title="", listed=0, role="extra", splits={}, licence="", home="", layout={}, archives=archives)
        monkeypatch.setattr(downloads, "registry", lambda: {"toy": facts})
        retries = Retries(num_attempts=9, first_wait_s=1, chance=lambda: 1.0, sleep=waits.append)
        return download("toy", tmp_path, retries=retries)

    return run


def asked(server):
    """(Range, If-Range) of every request."""
    return [(asked, condition) for (_, _, asked), condition in zip(server.requests, server.conditions, strict=True)]


def offer(server, content):
    (server.folder / "file.zip").write_bytes(content)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def recorded(folder):
    return json.loads((folder / "downloads.json").read_text())["file.zip"]


def test_a_download_is_unpacked_and_remembered_and_not_repeated(server, fetch, tmp_path):
    fetch(bytes=len(WHOLE), digest=f"md5:{hashlib.md5(WHOLE).hexdigest()}")
    assert (tmp_path / "images/a.bin").read_bytes() == BODY
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archives", "downloads.json", "images"]
    assert (tmp_path / "archives/file.zip").read_bytes() == WHOLE
    known = {"url": f"{server.url}/file.zip", "bytes": len(WHOLE), "sha256": sha256(WHOLE), "unpacked": True}
    assert recorded(tmp_path) == known | {"validator": None}
    assert asked(server) == [(None, None)]
    (tmp_path / "archives/file.zip").unlink()  # may go once it is unpacked
    stamp = (tmp_path / "images/a.bin").stat().st_mtime_ns
    fetch()
    assert len(server.requests) == 1
    assert (tmp_path / "images/a.bin").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("how", ["cut", "end"])
def test_a_cut_connection_goes_on_where_it_was(server, fetch, tmp_path, waits, how):
    server.script = [f"{how} 1000", f"{how} 2000", "reset", "503"]
    fetch()
    assert (tmp_path / "archives/file.zip").read_bytes() == WHOLE
    starts = [int(part.removeprefix("bytes=").removesuffix("-")) if part else 0 for part, _ in asked(server)]
    if how == "end":  # all that was sent has arrived
        assert starts == [0, 1000, 3000, 3000, 3000]
    assert starts == sorted(starts)
    assert {tag for part, tag in asked(server) if part} <= {'"one"'}
    assert waits == [1, 1, 2, 4] or how == "cut"


@pytest.mark.parametrize("changed", [False, True])
def test_one_that_is_given_up_goes_on_in_the_next_run_unless_the_content_changed(server, fetch, tmp_path, changed):
    server.script = ["end 4000", *["503"] * 8]
    with pytest.raises(DataError, match=r"failed 9 times .*503.*; 4000 bytes are kept"):
        fetch()
    assert not (tmp_path / "archives/file.zip").exists()
    if changed:
        offer(server, OTHER)
        server.headers["ETag"] = '"two"'
    fetch()
    assert asked(server)[9:] == [("bytes=4000-", '"one"')]
    assert (tmp_path / "archives/file.zip").read_bytes() == (OTHER if changed else WHOLE)
    assert (tmp_path / "images/a.bin").read_bytes() == (BODY[::-1] if changed else BODY)


@pytest.mark.parametrize(
    ("options", "script", "parts"),
    [
        ({"ranges": False}, ["end 3000", "end 5000"], [(3000, '"one"'), (5000, '"one"')]),
        ({"headers": {"ETag": 'W/"weak"', "Last-Modified": DATE}}, ["end 3000"], [(3000, DATE)]),
        ({"headers": {"ETag": None, "Last-Modified": DATE}}, ["end 3000"], [(3000, DATE)]),
        ({"headers": {"ETag": None}}, ["end 3000"], [None]),  # nothing tells that it is still the same
        ({}, ["end 3000", "other part"], [(3000, '"one"'), None]),
    ],
    ids=["no ranges", "weak tag", "date alone", "neither", "another part"],
)
def test_only_what_is_known_to_be_the_rest_is_added(server, fetch, tmp_path, options, script, parts):
    vars(server).update(options, script=script)
    fetch()
    assert asked(server) == [
        (None, None),
        *((f"bytes={part[0]}-", part[1]) if part else (None, None) for part in parts),
    ]
    assert (tmp_path / "archives/file.zip").read_bytes() == WHOLE


def test_a_size_unlike_the_known_one_is_told_before_anything_is_read(fetch, tmp_path, waits):
    with pytest.raises(DataError, match=rf"{len(WHOLE)} bytes, expected 7; the publisher offers another file"):
        fetch(bytes=7)
    assert waits == []
    assert list((tmp_path / "archives").iterdir()) == []


def test_without_a_length_the_size_is_checked_afterwards(server, fetch, tmp_path):
    server.length = False
    with pytest.raises(DataError, match=rf"file.zip: {len(WHOLE)} bytes, expected 7"):
        fetch(bytes=7)
    assert not (tmp_path / "images").exists()
    fetch()
    assert (tmp_path / "images/a.bin").read_bytes() == BODY


def test_a_wrong_digest_is_an_error(fetch, tmp_path):
    with pytest.raises(DataError, match=r"file.zip: sha256 \w+, published is 00; it is kept as .*file.zip.rejected"):
        fetch(digest="sha256:00")
    assert [p.name for p in (tmp_path / "archives").iterdir()] == ["file.zip.rejected"]
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_later_download_that_differs_from_the_first_is_an_error(server, fetch, tmp_path, by_hand):
    fetch()
    first = recorded(tmp_path)
    (tmp_path / "images/a.bin").unlink()
    (tmp_path / "images").rmdir()
    offer(server, OTHER)
    (tmp_path / "archives/file.zip").unlink()
    if by_hand:
        (tmp_path / "archives/file.zip").write_bytes(OTHER)
    with pytest.raises(DataError, match=f"sha256 {sha256(OTHER)}, the first download had {first['sha256']}"):
        fetch()
    assert recorded(tmp_path)["sha256"] == first["sha256"]
    assert not (tmp_path / "images").exists()
    offer(server, WHOLE)
    fetch()
    assert (tmp_path / "images/a.bin").read_bytes() == BODY


def test_an_archive_put_there_by_hand_is_taken(server, fetch, tmp_path):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives/file.zip").write_bytes(WHOLE)
    fetch(bytes=len(WHOLE))
    assert server.requests == []
    assert recorded(tmp_path)["sha256"] == sha256(WHOLE)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        *((code, rf"file.zip: the server answers {code} .*download file.zip yourself into") for code in ("403", "410")),
        ("page", "sends a web page instead of the file"),
    ],
)
def test_a_refusal_is_final(server, fetch, waits, fault, said):
    server.script = [fault]
    with pytest.raises(DataError, match=said):
        fetch()
    assert waits == []


def test_a_server_that_is_gone_is_given_up(fetch, waits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.zip"
    with pytest.raises(DataError, match=r"file\.zip: failed 4 times .*refused.*; check the URL, and"):
        fetch(url=url)
    assert waits == [1, 2, 4]


def test_a_server_that_never_gets_further_is_given_up(server, fetch):
    server.ranges = False
    server.script = ["end 3000"] * 20
    with pytest.raises(DataError, match=r"failed 9 times .*3000 bytes read"):
        fetch()
    assert len(server.requests) == 1 + 8


def test_truncated_archives_are_told_and_not_remembered(server, fetch, tmp_path):
    offer(server, WHOLE[:5000])
    with pytest.raises(
        DataError, match=r"archives/file.zip: cannot be unpacked \(File is not a zip file\); remove it and run"
    ):
        fetch()
    assert recorded(tmp_path)["sha256"] is None
    (tmp_path / "archives/file.zip").unlink()
    offer(server, WHOLE)
    fetch()
    assert (tmp_path / "images/a.bin").read_bytes() == BODY


def test_archives_inside_archives(server, fetch, tmp_path):
    offer(server, zipped({"annotations/in.zip": zipped({"p/1.png": b"1"}), "annotations/p.json": b"{}"}))
    outer = Archive(name="file.zip", url=f"{server.url}/file.zip", unpack={"annotations/": "annotations/"})
    inner = Archive(name="annotations/in.zip", inside="file.zip", unpack={"p/": "annotations/p/"})
    for _ in range(2):
        fetch(outer, inner)
    assert (tmp_path / "annotations/p/1.png").read_bytes() == b"1"
    assert len(server.requests) == 1
    (tmp_path / "annotations/p/1.png").unlink()
    (tmp_path / "annotations/p").rmdir()
    (tmp_path / "annotations/in.zip").unlink()
    with pytest.raises(DataError, match=r"in\.zip: missing; remove file.zip from .*downloads.json and run again"):
        fetch(outer, inner)


@pytest.mark.parametrize("content", ["{", "[]", '{"file.zip": {"sha": 1}}', '{"file.zip": 3}'])
def test_damaged_records_are_an_error(fetch, tmp_path, content):
    (tmp_path / "downloads.json").write_text(content)
    with pytest.raises(DataError, match=r"downloads.json"):
        fetch()


def test_only_what_needs_no_registration_is_downloaded(tmp_path):
    assert {name for name, facts in registry().items() if facts.downloads} == PUBLISHED.keys()
    for name in ("cityscapes-19", "bravo"):
        with pytest.raises(UsageError, match=f"'{name}' cannot be downloaded from here; get it from http"):
            download(name, tmp_path)
    with pytest.raises(UsageError, match=r"'own\.yaml' cannot be downloaded"):
        download("own.yaml", tmp_path)
    assert list(tmp_path.iterdir()) == []


def packed(name, files):
    """An archive, as its name says: of files with content, or of empty ones."""
    entries = files if isinstance(files, dict) else dict.fromkeys(files, b"")
    return zipped(entries) if name.endswith("zip") else tarred(entries.items(), "w:gz" if "gz" in name else "w")


def panoptic(part):
    note = {"annotations": [{"file_name": "000000000009.png", "segments_info": []}]}
    return {
        f"annotations/panoptic_{part}2017.json": json.dumps(note).encode(),
        f"annotations/panoptic_{part}2017.zip": zipped({f"panoptic_{part}2017/000000000009.png": b""}),
    }


def listed(dataset, pattern):
    return [pattern.format(stem) for split in ("train", "val") for stem in split_list(dataset, split)[:2]]


ADE = "ADEChallengeData2016/{}/{}/ADE_{}_00000001.{}"
SUN = split_list("sunrgbd-37", "val")[0]
PUBLISHED = {
    "ade20k-150": {
        "ADEChallengeData2016.zip": [
            ADE.format(folder, part, word, end)
            for folder, end in (("images", "jpg"), ("annotations", "png"))
            for part, word in (("training", "train"), ("validation", "val"))
        ],
        "ADE20K_2016_07_26.zip": ["ADE20K_2016_07_26/images/training/a/abbey/ADE_train_00000001_seg.png"],
    },
    "coco-panoptic-133": {
        **{f"{part}2017.zip": [f"{part}2017/000000000009.jpg"] for part in ("train", "val")},
        "panoptic_annotations_trainval2017.zip": panoptic("train") | panoptic("val"),
    },
    "sunrgbd-37": {"sun_rgbd.tgz": [
        "./image/train/img-000001.jpg", "./label37/train/00000001.png", "./depth/train/1.png",
        f"./image/test/{SUN}.jpg", f"./label37/test/{SUN[4:].zfill(8)}.png",
    ]},
    "voc2012": {
        "VOCtrainval_11-May-2012.tar": listed("voc2012", "VOCdevkit/VOC2012/JPEGImages/{}.jpg"),
        "SegmentationClassAug.zip": [
            "__MACOSX/SegmentationClassAug/._a.png", *listed("voc2012", "SegmentationClassAug/{}.png"),
        ],
    },
    "pascal-context-60": {
        "VOCtrainval_03-May-2010.tar": listed("pascal-context-60", "VOCdevkit/VOC2010/JPEGImages/{}.jpg"),
        "trainval.tar.gz": listed("pascal-context-60", "trainval/{}.mat"),
    },
    "camvid-11": {
        "701_StillsRaw_full.zip": listed("camvid-11", "701_StillsRaw_full/{}.png"),
        "LabeledApproved_full.zip": listed("camvid-11", "{}_L.png"),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_download_lies_as_its_source_expects_it(server, tmp_path, monkeypatch, name):
    for archive, content in PUBLISHED[name].items():
        (server.folder / archive).write_bytes(packed(archive, content))
    facts = registry()[name]
    near = [replace(a, bytes=None, digest=None, url=a.url and f"{server.url}/{a.name}") for a in facts.archives]
    monkeypatch.setattr(downloads, "registry", lambda: {name: replace(facts, archives=tuple(near))})
    download(name, tmp_path)
    for split in ("train", "val"):
        found = dataset(name).find(Release(tmp_path), split)
        assert len(found.pairs) in (1, 2)
        assert all((tmp_path / pair.label).is_file() and (tmp_path / pair.image).is_file() for pair in found.pairs)
    wrong = check_release(name, tmp_path)
    assert (wrong.problems, wrong.notes) == ((), ())


def unpack_into(folder, name, content, rules):
    """Unpack an archive of that name and content, which lies beside `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.parent / name
    path.write_bytes(content)
    return unpack(path, rules, folder, lambda done, total: None)


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tgz", "w:gz"), ("a.tar.gz", "w:gz")])
def test_tars_are_unpacked_by_prefix(tmp_path, name, mode):
    out, folder = tmp_path / "out", ("./image", (tarfile.DIRTYPE, ""))
    files = [("./image/a.jpg", b"a"), ("./label37/0.png", b"0"), ("depth/x", b"x")]
    content, rules = tarred([folder, *files], mode), {"image/": "image/", "label37/": "label38/"}
    assert unpack_into(out, name, content, rules) == 2
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {"image/a.jpg", "label38/0.png"}
    assert unpack_into(out, name, content, rules) == 0
    (out / "label38/0.png").write_bytes(b"")  # as an interrupted copy would leave it
    assert unpack_into(out, name, content, rules) == 1
    with pytest.raises(DataError, match=r"holds nothing below labels/; put the archive there"):
        unpack_into(out, name, content, {"labels/": "labels/"})


EVIL = ("../out.txt", "x/../../out.txt", "/tmp/segstream-out.txt", "x/a/../../../out.txt")


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_refused(tmp_path, name, kind):
    files = {"x/a": b"a", name: b"evil"}
    with pytest.raises(DataError, match=r"which is absolute or has `\.\.`; remove it"):
        unpack_into(
            tmp_path / "in/out", f"a.{kind}", zipped(files) if kind == "zip" else tarred(files.items()), {"": ""}
        )
    assert {p.name for p in tmp_path.rglob("*")} == {f"a.{kind}", "in", "out", "x", "a"}


def test_links_and_devices_are_refused(tmp_path):
    info = zipfile.ZipInfo("x/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "/etc")
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)
    tars = [("a.tar", tarred([("x/link", (kind, "/etc")), ("x/link/passwd", b"evil")])) for kind in kinds]
    for name, content in [*tars, ("a.zip", buffer.getvalue())]:
        with pytest.raises(DataError, match="'x/link' is a link or device"):
            unpack_into(tmp_path / "out", name, content, {"x/": "x/"})
    assert not (tmp_path / "out/x/link").exists()


def test_a_folder_that_is_a_link_out_is_not_written_into(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "images").symlink_to(elsewhere)
    with pytest.raises(DataError, match="images: a link out of"):
        unpack_into(out, "a.zip", zipped({"x/a": b"a"}), {"x/": "images/"})
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tgz", "w:gz"), ("a.zip", "")])
def test_archives_cut_anywhere_are_told(tmp_path, name, mode):
    entries = {f"x/{i}": bytes([i]) * 1000 for i in range(6)}
    whole = tarred(entries.items(), mode) if mode else zipped(entries)
    end = 6 * 1536 if name == "a.tar" else len(whole)  # what follows in a tar is padding
    for size in {0, 1, 100, end - 1, *range(512, end, 512 if name == "a.tar" else 97)} - {end}:
        out = tmp_path / f"out{size}"
        with pytest.raises(DataError, match="cannot be unpacked"):
            unpack_into(out, name, whole[:size], {"x/": "x/"})
        for written in out.rglob("*"):
            assert written.is_dir() or written.suffix == ".part" or written.read_bytes() == entries[f"x/{written.name}"]


def test_a_flipped_bit_in_a_zip_is_told(tmp_path):
    content = bytearray(zipped({"x/a": b"a" * 1000}))
    content[500] ^= 1
    with pytest.raises(DataError, match=r"cannot be unpacked \(Bad CRC-32"):
        unpack_into(tmp_path / "out", "a.zip", content, {"x/": "x/"})
    assert not (tmp_path / "out/x/a").exists()
