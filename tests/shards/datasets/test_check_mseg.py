import json
import shutil
import subprocess
from importlib import metadata

import pytest

from segstream.shards.datasets import check_mseg as module
from segstream.shards.datasets.check_mseg import Difference, check_mseg, compare
from segstream.shards.errors import DataError
from tests.shards.shared import TAXONOMY, needs_mseg

FULL = "2bd00ae8c224d94cbc7ff9b47fde6ae8420adc27"


@pytest.fixture
def tree(tmp_path):
    """A checkout of mseg-api, as far as tables go."""
    root = tmp_path / "checkout"
    (root / "mseg/class_remapping_files").mkdir(parents=True)
    for path in TAXONOMY.glob("*.tsv"):
        shutil.copy(path, root / "mseg/class_remapping_files")
    for path in (*TAXONOMY.glob("*_names.txt"), *TAXONOMY.glob("*_colors.txt")):
        folder = root / "mseg/dataset_lists" / path.name.rpartition("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    for path in root.rglob("*.t*"):
        path.chmod(0o644)
    return root


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs the empty package that pip builds, with the place it came from."""
    monkeypatch.setattr(module, "_importable", list)

    def install(**recorded):
        info = tmp_path / "site/mseg-1.0.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mseg\nVersion: 1.0.0\n")
        (info / "direct_url.json").write_text(json.dumps(recorded))
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


def edit(path, old, new):
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


@needs_mseg
def test_our_tables_are_msegs(tree, monkeypatch):
    monkeypatch.syspath_prepend(tree)
    assert check_mseg() == []


@needs_mseg
@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        (
            "dataset_lists/voc2012/voc2012_names.txt",
            "horse",
            "pony",
            [Difference(table="voc2012", item="13", ours="horse", theirs="pony")],
        ),
        (
            "class_remapping_files/sunrgbd-38_to_sunrgbd-37.tsv",
            "chair\tchair",
            "chair\ttable",
            [Difference(table="sunrgbd-38 to sunrgbd-37", item="5", ours="chair", theirs="table")],
        ),
        (
            "class_remapping_files/camvid-32_to_camvid-11.tsv",
            "Child\tunlabeled",
            "Child\tPedestrian",
            [Difference(table="camvid-32 to camvid-11", item="7", ours="unlabeled", theirs="Pedestrian")],
        ),
        (
            "class_remapping_files/bdd_to_bdd-relabeled.tsv",
            "rider\trider_other",
            "rider\tperson",
            [Difference(table="bdd to bdd-relabeled", item="rider", ours="rider_other", theirs="person")],
        ),
        (
            "dataset_lists/camvid-32/camvid-32_colors.txt",
            "64",
            "65",
            [Difference(table="colours of camvid-32", item="0", ours="64 128 64", theirs="65 128 64")],
        ),
    ],
)
def test_each_difference_is_named(tree, monkeypatch, path, old, new, expected):
    edit(tree / "mseg" / path, old, new)
    monkeypatch.syspath_prepend(tree)
    assert check_mseg() == expected


@needs_mseg
def test_a_changed_cell_of_the_master_table_shows_on_both_its_ends(tree, monkeypatch):
    path = tree / "mseg/class_remapping_files/MSeg_master.tsv"
    header, *rows = path.read_bytes().decode().split("\r\n")
    columns = header.split("\t")
    cells = [row.split("\t") for row in rows]
    sky = next(row for row in cells if row[columns.index("universal")] == "sky")
    sky[columns.index("kitti-19")] = "building"
    sky[columns.index("bdd")] = ""
    path.write_bytes("\r\n".join(["\t".join(row) for row in (columns, *cells)]).encode())
    monkeypatch.syspath_prepend(tree)
    assert [str(d) for d in check_mseg()] == [
        "bdd to universal: sky: ours 'sky', mseg-api ''",
        "universal to kitti-19: sky: ours 'sky', mseg-api 'building'",
    ]


@needs_mseg
def test_every_table_of_the_package_is_compared(tree):
    """Anything changed in any file that a label or a prediction passes through must show."""
    ours = module.our_tables()
    files = sorted((tree / "mseg/class_remapping_files").glob("*_to_*.tsv"))
    assert len(files) == 19
    for path in files:
        before = path.read_bytes()
        lines = before.decode().splitlines()
        place = next(i for i, line in enumerate(lines[1:], 1) if not line.startswith("unlabeled"))
        lines[place] = lines[place].split("\t")[0] + "\tno such class"
        path.write_text("\n".join(lines))
        differences = compare(ours, module.their_tables(tree / "mseg"))
        path.write_bytes(before)
        assert {d.theirs for d in differences} == {"no such class"}, path.name
        assert {d.table for d in differences} == {path.stem.replace("_to_", " to ")}


@needs_mseg
def test_a_package_that_is_not_whole(tree, monkeypatch):
    monkeypatch.syspath_prepend(tree)
    names = tree / "mseg/dataset_lists/idd-39/idd-39_names.txt"
    names.unlink()
    with pytest.raises(DataError, match=r"idd-39_names\.txt: cannot be read .*; install mseg-api again"):
        check_mseg()
    (tree / "mseg/class_remapping_files/MSeg_master.tsv").write_text("universal\tbdd\nsky\tsky\n")
    with pytest.raises(DataError, match=r"MSeg_master\.tsv: has no column 'ade20k-150'; install mseg-api again"):
        check_mseg()


def test_not_installed(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module, "_importable", list)
    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(DataError, match=r"^mseg-api is not installed; pip install 'segstream\[mseg\]'$"):
        check_mseg()


@needs_mseg
def test_installed_from_a_folder(tree, installed):
    installed(url=tree.as_uri(), dir_info={"editable": True})
    assert check_mseg() == []


@needs_mseg
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")
def test_installed_from_git_the_tables_come_from_the_recorded_revision(tree, installed):
    def git(*args):
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", "-C", tree, *name, *args], check=True, capture_output=True, text=True).stdout

    (tree / "mseg/relabeled.txt").write_text("not a table")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "tables")
    commit = git("rev-parse", "HEAD").strip()
    git("rm", "-qr", "mseg")
    git("commit", "-qm", "gone")
    installed(url=tree.as_uri(), vcs_info={"vcs": "git", "commit_id": commit})
    assert check_mseg() == []


def test_a_repository_that_is_not_there(tmp_path, installed):
    installed(url=(tmp_path / "nowhere").as_uri(), vcs_info={"vcs": "git", "commit_id": FULL})
    with pytest.raises(
        DataError, match=r"cannot be fetched from file:\S+ \([^\n]+\); put a checkout of it on PYTHONPATH"
    ):
        check_mseg()


def test_installed_from_an_index_without_tables(installed):
    installed(archive_info={})
    with pytest.raises(DataError, match="installed without its tables; put a checkout of it on PYTHONPATH"):
        check_mseg()
