"""A release as it lies: folders, zips laid over them, and names that lead elsewhere."""

import os
import pickle
import zipfile

import pytest

from segstream.shards.datasets.release import Release
from segstream.shards.errors import DataError


def packed(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.fixture
def root(tmp_path):
    for path in ("images/a/1.jpg", "images/b/2.jpg", "images/b/._2.jpg", "labels/1.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    return tmp_path


def test_a_folder(root):
    raw = Release(root)
    assert raw.below("images", ".jpg") == ("a/1.jpg", "b/2.jpg")
    assert raw.below("images/b") == ("2.jpg",)
    assert raw.below("", ".png") == ("labels/1.png",)
    assert raw.below("none") == ()
    assert (raw.has("images/a/1.jpg"), raw.has("images/a"), raw.has("images/a/2.jpg")) == (True, False, False)
    assert (raw.has_folder("images/a"), raw.has_folder("images/c")) == (True, False)
    assert (raw.size("labels/1.png"), raw.size("labels/2.png")) == (12, 0)
    assert raw.read("labels/1.png") == b"labels/1.png"
    with pytest.raises(FileNotFoundError):
        raw.read("labels/2.png")
    with pytest.raises(OSError, match="directory"):
        raw.read("labels")


@pytest.mark.parametrize("top", ["", "Release-1.0/"])
def test_a_zip_counts_as_unpacked_and_files_on_disk_go_first(root, top):
    files = {"images/a/1.jpg": b"other", "images/c/3.jpg": b"three", "labels/3.png": b"x" * 999, "__MACOSX/q": b""}
    packed(root / "all.zip", {top + name: data for name, data in files.items()})
    raw = pickle.loads(pickle.dumps(Release(root)))
    assert raw.below("images", ".jpg") == ("a/1.jpg", "b/2.jpg", "c/3.jpg")
    assert [path for path in raw.below("") if "3" in path] == [f"{top}images/c/3.jpg", f"{top}labels/3.png"]
    assert raw.read("images/a/1.jpg") == b"images/a/1.jpg"
    assert raw.read("images/c/3.jpg") == b"three"
    assert raw.size("labels/3.png") == 999
    assert raw.has("labels/3.png")
    assert raw.has_folder("images/c")
    assert raw.has_folder(f"{top}images/c")
    assert raw.read(f"{top}labels/3.png") == b"x" * 999
    assert not raw.has_folder("images/d")


def test_a_zip_made_anew_is_read_anew(root):
    for content in (b"1", b"22"):
        packed(root / "all.zip", {"x.txt": content, "y": b""})
        assert Release(root).read("x.txt") == content


@pytest.mark.parametrize("name", ["../secret", "images/../../secret", "/etc/hostname", "a\0b"])
def test_names_that_lead_out_of_the_root(root, name):
    (root.parent / "secret").write_text("x")
    raw = Release(root)
    assert not raw.has(name)
    assert not raw.has_folder(name)
    assert raw.size(name) == 0
    with pytest.raises(OSError, match=r"absolute, or with `\.\.`"):
        raw.read(name)


def test_links_are_followed_wherever_they_lead(root, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "9.jpg").write_text("on another disk")
    (root / "images/a/link.jpg").symlink_to(root / "images/b/2.jpg")
    (root / "images/same").symlink_to("b")
    (root / "images/a/out.jpg").symlink_to(outside / "9.jpg")
    (root / "images/more").symlink_to(outside)
    raw = Release(root)
    assert raw.below("images") == ("a/1.jpg", "a/link.jpg", "a/out.jpg", "b/2.jpg", "more/9.jpg", "same/2.jpg")
    assert raw.read("images/a/link.jpg") == b"images/b/2.jpg"
    assert raw.read("images/a/out.jpg") == raw.read("images/more/9.jpg") == b"on another disk"


def test_circles_of_links(root):
    (root / "labels/self.png").symlink_to("self.png")
    raw = Release(root)
    assert raw.below("labels") == ("1.png", "self.png")
    with pytest.raises(OSError, match="symbolic links"):
        raw.read("labels/self.png")
    for target in ("..", root.parent):  # which holds the root
        (root / "labels/up").symlink_to(target)
        with pytest.raises(DataError, match=r"labels/up: a link to a folder above it, a circle; remove"):
            Release(root).below("labels")
        (root / "labels/up").unlink()
    (root / "images/a/x").symlink_to("../b")
    (root / "images/b/y").symlink_to("../a")
    with pytest.raises(DataError, match="a circle; remove the link"):
        raw.below("images")


def test_damaged_and_hostile_zips(root):
    path = root / "all.zip"
    packed(path, {"images/c/3.jpg": os.urandom(3000), "images/c/4.jpg": b"4"})
    whole = path.read_bytes()
    path.write_bytes(whole[:1000] + bytes(4) + whole[1004:])
    with pytest.raises(OSError, match=r"member of .*all\.zip: Bad CRC-32"):
        Release(root).read("images/c/3.jpg")
    path.write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"all\.zip: not a whole zip"):
        Release(root).below("images")
    packed(path, {"../x": b"1"})
    with pytest.raises(DataError, match=r"holds the name '\.\./x', which is absolute or has"):
        Release(root).below("images")
    packed(path, {"a": b"1", "b": b"2"})
    path.write_bytes(path.read_bytes().replace(b"b", b"a"))
    with pytest.raises(DataError, match="two different files 'a'"):
        Release(root).has("a")


def test_archives_that_are_not_read_in_place_are_named(root):
    for name in ("b.tar.gz", "a.tar", "c.zip.part", "d.txt"):
        (root / name).write_text("")
    assert Release(root).packed() == ("a.tar", "b.tar.gz")
    assert Release(root / "none").packed() == ()


def test_what_is_larger_than_any_picture_is_not_unpacked(root, monkeypatch):
    packed(root / "all.zip", {"images/c/3.jpg": bytes(5000), "images/c/4.jpg": bytes(400)})
    (root / "labels/1.png").write_bytes(bytes(401))
    monkeypatch.setenv("SEGSTREAM_MAX_PIXELS", "100")
    raw = Release(root)
    assert raw.read("images/c/4.jpg") == bytes(400)
    for path in ("images/c/3.jpg", "labels/1.png"):
        with pytest.raises(OSError, match=r"too large: .* bytes, more than 400; set SEGSTREAM_MAX_PIXELS="):
            raw.read(path)
    whole = (root / "all.zip").read_bytes()
    says, lies = (size.to_bytes(4, "little") for size in (5000, 40))
    (root / "all.zip").write_bytes(whole.replace(says, lies))
    with pytest.raises(OSError, match="Bad CRC-32"):
        Release(root).read("images/c/3.jpg")
