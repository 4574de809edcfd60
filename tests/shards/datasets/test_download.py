"""Downloads from a server on this machine that cuts, refuses, ignores and changes; nothing waits."""

import contextlib
import hashlib
import http.server
import io
import json
import socket
import struct
import tarfile
import threading
import zipfile
from dataclasses import replace

import pytest

from segstream.shards.datasets import download as downloads
from segstream.shards.datasets.check import check_release
from segstream.shards.datasets.download import download
from segstream.shards.datasets.layout import split_list
from segstream.shards.datasets.registry import Archive, Facts, dataset, registry
from segstream.shards.datasets.release import Release
from segstream.shards.errors import DataError, UsageError

BODY = bytes(range(256)) * 40  # of the file x/a.bin


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`, or `contents` by path; each request takes the next of `faults`, and is noted."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.ranges = zipped({"x/a.bin": BODY, "y/b.bin": b"b"}), '"one"', True
        self.date = self.length = True
        self.contents = {}
        self.faults, self.seen = [], []

    def handle_error(self, *_):
        pass

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.seen.append((asked, self.headers.get("If-Range")))
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if fault == "drop":
            self.cut()
            return
        content, start = server.contents.get(self.path, server.content), 0
        if asked and server.ranges and self.headers["If-Range"] in (server.tag, DATE):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            begin = start + (1 if fault == "wrong start" else 0)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if fault == "page" else "application/zip")
        if server.tag:
            self.send_header("ETag", server.tag)
        if server.date:
            self.send_header("Last-Modified", DATE)
        if server.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if isinstance(fault, tuple):  # ("cut" | "end", bytes)
            self.wfile.write(content[start : start + fault[1]])
            self.wfile.flush()
            if fault[0] == "cut":
                self.cut()
            self.close_connection = True
            return
        self.wfile.write(content[start:])

    def cut(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not end
        with contextlib.suppress(OSError):
            self.connection.close()
        self.close_connection = True

    def log_message(self, *_):
        pass


DATE = "Mon, 02 Jan 2017 03:04:05 GMT"


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def fetch(server, tmp_path, monkeypatch, waits):
    """Downloads the one archive that a registry of the test's own has."""

    def run(**known):
        archive = {"name": "file.zip", "url": server.url, "unpack": {"x/": "images/"}} | known
        return run_all(Archive(**archive))

    def run_all(*archives):
        facts = Facts(title="", listed=0, role="extra", splits={}, licence="", home="", layout={}, archives=archives)
        monkeypatch.setattr(downloads, "registry", lambda: {"toy": facts})
        return download("toy", tmp_path, sleep=waits.append)

    run.all = run_all
    return run


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def recorded(folder):
    return json.loads((folder / "downloads.json").read_text())["file.zip"]


def test_a_download_is_unpacked_and_remembered_and_not_repeated(server, fetch, tmp_path):
    fetch(bytes=len(server.content), digest=f"md5:{hashlib.md5(server.content).hexdigest()}")
    assert (tmp_path / "images/a.bin").read_bytes() == BODY
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archives", "downloads.json", "images"]
    assert (tmp_path / "archives/file.zip").read_bytes() == server.content
    known = {"url": server.url, "bytes": len(server.content), "sha256": sha256(server.content), "unpacked": True}
    assert recorded(tmp_path) == known | {"validator": None}
    assert server.seen == [(None, None)]
    for archive in (tmp_path / "archives").iterdir():
        archive.unlink()  # may go once it is unpacked
    stamp = (tmp_path / "images/a.bin").stat().st_mtime_ns
    fetch()
    assert len(server.seen) == 1
    assert (tmp_path / "images/a.bin").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("how", ["cut", "end"])
def test_a_cut_connection_goes_on_where_it_was(server, fetch, tmp_path, waits, how):
    server.faults = [(how, 1000), (how, 2000), "drop", 503]
    fetch()
    assert (tmp_path / "archives/file.zip").read_bytes() == server.content
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0 for asked, _ in server.seen]
    if how == "end":  # all that was sent has arrived
        assert starts == [0, 1000, 3000, 3000, 3000]
    assert starts == sorted(starts)
    assert {tag for asked, tag in server.seen if asked} <= {'"one"'}
    assert waits == [1, 1, 1, 2] or how == "cut"


def test_a_download_that_is_given_up_goes_on_in_the_next_run(server, fetch, tmp_path):
    server.faults = [("end", 4000), *[503] * 8]
    with pytest.raises(DataError, match=r"503 .*8 times in a row; 4000 bytes are kept"):
        fetch()
    assert not (tmp_path / "archives/file.zip").exists()
    server.seen.clear()
    fetch()
    assert server.seen == [("bytes=4000-", '"one"')]
    assert (tmp_path / "images/a.bin").read_bytes() == BODY


def test_a_server_without_ranges_starts_over(server, fetch, tmp_path):
    server.ranges = False
    server.faults = [("end", 3000), ("end", 5000)]
    fetch()
    assert [asked for asked, _ in server.seen] == [None, "bytes=3000-", "bytes=5000-"]
    assert (tmp_path / "archives/file.zip").read_bytes() == server.content


@pytest.mark.parametrize("tag", ['W/"weak"', None])
def test_the_date_tells_the_content_where_there_is_no_strong_tag(server, fetch, tag):
    server.tag = tag
    server.faults = [("end", 3000)]
    fetch()
    assert server.seen == [(None, None), ("bytes=3000-", DATE)]


def test_without_tag_and_date_nothing_is_resumed(server, fetch, tmp_path):
    server.tag, server.date = None, False
    server.faults = [("end", 3000)]
    fetch()
    assert server.seen == [(None, None), (None, None)]
    assert (tmp_path / "archives/file.zip").read_bytes() == server.content


def test_content_that_changes_in_between_is_not_mixed(server, fetch, tmp_path):
    server.faults = [("end", 3000), *[503] * 8]
    with pytest.raises(DataError):
        fetch()
    server.content, server.tag = zipped({"x/a.bin": BODY[::-1]}), '"two"'
    server.seen.clear()
    fetch()
    assert server.seen == [("bytes=3000-", '"one"')]
    assert (tmp_path / "archives/file.zip").read_bytes() == server.content


def test_a_server_that_sends_another_part_is_not_believed(server, fetch, tmp_path):
    server.faults = [("end", 3000), "wrong start"]
    fetch()
    assert [asked for asked, _ in server.seen] == [None, "bytes=3000-", None]
    assert (tmp_path / "archives/file.zip").read_bytes() == server.content


def test_a_size_unlike_the_known_one_is_told_before_anything_is_read(server, fetch, tmp_path, waits):
    with pytest.raises(DataError, match=rf"{len(server.content)} bytes, expected 7; the publisher offers another file"):
        fetch(bytes=7)
    assert waits == []
    assert list((tmp_path / "archives").iterdir()) == []


def test_without_a_length_the_size_is_checked_afterwards(server, fetch, tmp_path):
    server.length = False
    with pytest.raises(DataError, match=rf"file.zip: {len(server.content)} bytes, expected 7"):
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
    server.content = zipped({"x/a.bin": BODY[::-1]})
    if by_hand:
        (tmp_path / "archives/file.zip").write_bytes(server.content)
    else:
        (tmp_path / "archives/file.zip").unlink()
    with pytest.raises(DataError, match=f"sha256 {sha256(server.content)}, the first download had {first['sha256']}"):
        fetch()
    assert recorded(tmp_path)["sha256"] == first["sha256"]
    assert not (tmp_path / "images").exists()
    server.content = zipped({"x/a.bin": BODY, "y/b.bin": b"b"})
    fetch()
    assert (tmp_path / "images/a.bin").read_bytes() == BODY


def test_an_archive_put_there_by_hand_is_taken(server, fetch, tmp_path):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives/file.zip").write_bytes(server.content)
    fetch(bytes=len(server.content))
    assert server.seen == []
    assert recorded(tmp_path)["sha256"] == sha256(server.content)


@pytest.mark.parametrize("fault", [403, 404, 410])
def test_a_refusal_is_final(server, fetch, waits, fault):
    server.faults = [fault]
    with pytest.raises(DataError, match=rf"file.zip: the server answers {fault} .*download file.zip yourself into"):
        fetch()
    assert waits == []


def test_a_web_page_is_not_the_file(server, fetch):
    server.faults = ["page"]
    with pytest.raises(DataError, match="sends a web page instead of the file"):
        fetch()


def test_a_server_that_is_gone_is_given_up(server, fetch, waits, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.zip"
    with pytest.raises(DataError, match=r"the connection failed \(.*refused\), 8 times in a row; 0 bytes are kept"):
        fetch(url=url)
    assert waits == [1, 2, 4, 8, 16, 32, 60]


def test_a_server_that_never_gets_further_is_given_up(server, fetch, waits):
    server.ranges = False
    server.faults = [("end", 3000)] * 20
    with pytest.raises(DataError, match=r"the connection ended after 3000 of \d+ bytes, 8 times in a row"):
        fetch()
    assert len(server.seen) == 1 + 8


def test_truncated_archives_are_told_and_not_remembered(server, fetch, tmp_path):
    whole, server.content = server.content, server.content[:5000]
    with pytest.raises(DataError, match=r"archives/file.zip: damaged \(File is not a zip file\); remove it and run"):
        fetch()
    assert recorded(tmp_path)["sha256"] is None
    (tmp_path / "archives/file.zip").unlink()
    server.content = whole
    fetch()
    assert (tmp_path / "images/a.bin").read_bytes() == BODY


def test_archives_inside_archives(server, fetch, tmp_path):
    server.content = zipped({"annotations/in.zip": zipped({"p/1.png": b"1"}), "annotations/p.json": b"{}"})
    outer = Archive(name="file.zip", url=server.url, unpack={"annotations/": "annotations/"})
    inner = Archive(name="annotations/in.zip", inside="file.zip", unpack={"p/": "annotations/p/"})
    fetch.all(outer, inner)
    fetch.all(outer, inner)
    assert (tmp_path / "annotations/p/1.png").read_bytes() == b"1"
    assert len(server.seen) == 1
    (tmp_path / "annotations/p/1.png").unlink()
    (tmp_path / "annotations/p").rmdir()
    (tmp_path / "annotations/in.zip").unlink()
    with pytest.raises(DataError, match=r"in\.zip: missing; remove file.zip from .*downloads.json and run again"):
        fetch.all(outer, inner)


def test_damaged_records_are_an_error(fetch, tmp_path):
    for content in ("{", "[]", '{"file.zip": {"sha": 1}}', '{"file.zip": 3}'):
        (tmp_path / "downloads.json").write_text(content)
        with pytest.raises(DataError, match=r"downloads.json"):
            fetch()


def test_only_what_needs_no_registration_is_downloaded(tmp_path):
    open_ones = {"ade20k-150", "coco-panoptic-133", "camvid-11", "voc2012", "pascal-context-60", "sunrgbd-37"}
    assert {name for name, facts in registry().items() if facts.downloads} == open_ones
    for name in ("cityscapes-19", "bravo"):
        with pytest.raises(UsageError, match=f"'{name}' cannot be downloaded from here; get it from http"):
            download(name, tmp_path)
    with pytest.raises(UsageError, match=r"'own\.yaml' cannot be downloaded"):
        download("own.yaml", tmp_path)
    assert list(tmp_path.iterdir()) == []


def packed(kind, files):
    """An archive of empty files, as bytes; archives within it are given as files of their own."""
    entries = {name: files[name] if isinstance(files, dict) else b"" for name in files}
    if kind == "zip":
        return zipped(entries)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "gz" else "w") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def ade(folder, end):
    parts = {"training": "train", "validation": "val"}
    return [f"ADEChallengeData2016/{folder}/{part}/ADE_{p}_00000001.{end}" for part, p in parts.items()]


def panoptic(part):
    note = {"annotations": [{"file_name": "000000000009.png", "segments_info": []}]}
    return {
        f"annotations/panoptic_{part}2017.json": json.dumps(note).encode(),
        f"annotations/panoptic_{part}2017.zip": packed("zip", [f"panoptic_{part}2017/000000000009.png"]),
    }


def listed(dataset, pattern):
    return [pattern.format(stem) for split in ("train", "val") for stem in split_list(dataset, split)[:2]]


PUBLISHED = {
    "ade20k-150": {
        "ADEChallengeData2016.zip": packed("zip", ade("images", "jpg") + ade("annotations", "png")),
        "ADE20K_2016_07_26.zip": packed(
            "zip", ["ADE20K_2016_07_26/images/training/a/abbey/ADE_train_00000001_seg.png"]
        ),
    },
    "coco-panoptic-133": {
        "train2017.zip": packed("zip", ["train2017/000000000009.jpg"]),
        "val2017.zip": packed("zip", ["val2017/000000000009.jpg"]),
        "panoptic_annotations_trainval2017.zip": packed("zip", panoptic("train") | panoptic("val")),
    },
    "sunrgbd-37": {
        "sun_rgbd.tgz": packed(
            "gz",
            [
                *("./image/train/img-000001.jpg", "./label37/train/00000001.png", "./depth/train/1.png"),
                *(f"./image/test/{stem}.jpg" for stem in split_list("sunrgbd-37", "val")[:1]),
                *(f"./label37/test/{stem[4:].zfill(8)}.png" for stem in split_list("sunrgbd-37", "val")[:1]),
            ],
        )
    },
    "voc2012": {
        "VOCtrainval_11-May-2012.tar": packed("", listed("voc2012", "VOCdevkit/VOC2012/JPEGImages/{}.jpg")),
        "SegmentationClassAug.zip": packed(
            "zip", ["__MACOSX/SegmentationClassAug/._a.png", *listed("voc2012", "SegmentationClassAug/{}.png")]
        ),
    },
    "pascal-context-60": {
        "VOCtrainval_03-May-2010.tar": packed("", listed("pascal-context-60", "VOCdevkit/VOC2010/JPEGImages/{}.jpg")),
        "trainval.tar.gz": packed("gz", listed("pascal-context-60", "trainval/{}.mat")),
    },
    "camvid-11": {
        "701_StillsRaw_full.zip": packed("zip", listed("camvid-11", "701_StillsRaw_full/{}.png")),
        "LabeledApproved_full.zip": packed("zip", listed("camvid-11", "{}_L.png")),
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_download_lies_as_its_source_expects_it(server, tmp_path, monkeypatch, name):
    facts = registry()[name]
    assert facts.downloads
    server.contents = {f"/{archive}": content for archive, content in PUBLISHED[name].items()}
    near = [
        replace(a, bytes=None, digest=None, url=a.url and server.url.replace("file.zip", a.name))
        for a in facts.archives
    ]
    monkeypatch.setattr(downloads, "registry", lambda: {name: replace(facts, archives=tuple(near))})
    download(name, tmp_path)
    for split in ("train", "val"):
        found = dataset(name).find(Release(tmp_path), split)
        assert len(found.pairs) in (1, 2)
        assert all((tmp_path / pair.label).is_file() and (tmp_path / pair.image).is_file() for pair in found.pairs)
    wrong = check_release(name, tmp_path)
    assert (wrong.problems, wrong.notes) == ((), ())


def tar_of(path, entries, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                tar.addfile(info)


def unpack_into(folder, path, rules):
    from segstream.shards.datasets.download import unpack

    return unpack(path, rules, folder, lambda done, total: None)


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tgz", "w:gz"), ("a.tar.gz", "w:gz")])
def test_tars_are_unpacked_by_prefix(tmp_path, name, mode):
    path, out = tmp_path / name, tmp_path / "out"
    out.mkdir()
    entries = [
        ("./image", (tarfile.DIRTYPE, "")),
        ("./image/a.jpg", b"a"),
        ("./label37/0.png", b"0"),
        ("depth/x", b"x"),
    ]
    tar_of(path, entries, mode)
    assert unpack_into(out, path, {"image/": "image/", "label37/": "label38/"}) == 2
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {"image/a.jpg", "label38/0.png"}
    assert unpack_into(out, path, {"image/": "image/", "label37/": "label38/"}) == 0
    (out / "label38/0.png").write_bytes(b"")  # as an interrupted copy would leave it
    assert unpack_into(out, path, {"image/": "image/", "label37/": "label38/"}) == 1
    with pytest.raises(DataError, match=r"holds nothing below labels/; is it the right archive"):
        unpack_into(out, path, {"labels/": "labels/"})


EVIL = ("../out.txt", "x/../../out.txt", "/tmp/segstream-out.txt", "x/a/../../../out.txt")


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_refused(tmp_path, name, kind):
    path, out = tmp_path / f"a.{kind}", tmp_path / "in/out"
    out.mkdir(parents=True)
    if kind == "zip":
        path.write_bytes(zipped({"x/a": b"a", name: b"evil"}))
    else:
        tar_of(path, [("x/a", b"a"), (name, b"evil")])
    with pytest.raises(DataError, match="which leads out of its folder"):
        unpack_into(out, path, {"": ""})
    assert {p.name for p in tmp_path.rglob("*")} == {path.name, "in", "out", "x", "a"}


def test_links_and_devices_are_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        tar_of(tmp_path / "a.tar", [("x/link", (kind, "/etc")), ("x/link/passwd", b"evil")])
        with pytest.raises(DataError, match="'x/link' is a link or device"):
            unpack_into(out, tmp_path / "a.tar", {"x/": "x/"})
    info = zipfile.ZipInfo("x/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(DataError, match="'x/link' is a link or device"):
        unpack_into(out, tmp_path / "a.zip", {"x/": "x/"})
    assert not (out / "x/link").exists()


def test_a_folder_that_is_a_link_out_is_not_written_into(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "images").symlink_to(elsewhere)
    (tmp_path / "a.zip").write_bytes(zipped({"x/a": b"a"}))
    with pytest.raises(DataError, match="images: a link out of"):
        unpack_into(out, tmp_path / "a.zip", {"x/": "images/"})
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tgz", "w:gz"), ("a.zip", "")])
def test_archives_cut_anywhere_are_told(tmp_path, name, mode):
    path = tmp_path / name
    entries = {f"x/{i}": bytes([i]) * 1000 for i in range(6)}
    if mode:
        tar_of(path, entries.items(), mode)
    else:
        path.write_bytes(zipped(entries))
    whole = path.read_bytes()
    end = 6 * 1536 if name == "a.tar" else len(whole)  # what follows in a tar is padding
    for size in {0, 1, 100, end - 1, *range(512, end, 512 if name == "a.tar" else 97)} - {end}:
        out = tmp_path / f"out{size}"
        out.mkdir()
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="damaged"):
            unpack_into(out, path, {"x/": "x/"})
        for written in out.rglob("*"):
            assert written.is_dir() or written.suffix == ".part" or written.read_bytes() == entries[f"x/{written.name}"]


def test_a_flipped_bit_in_a_zip_is_told(tmp_path):
    content = bytearray(zipped({"x/a": b"a" * 1000}))
    content[500] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"damaged \(Bad CRC-32"):
        unpack_into(tmp_path / "out", tmp_path / "a.zip", {"x/": "x/"})
    assert not (tmp_path / "out/x/a").exists()
