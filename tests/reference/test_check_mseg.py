import shutil
import subprocess

import pytest

from segstream.shards.errors import DataError
from tests.reference import check_mseg as module
from tests.reference.check_mseg import Difference, compare
from tests.shards.shared import TAXONOMY, needs_mseg


def differences(tree):
    return compare(module.our_tables(), module.their_tables(tree / "mseg"))


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


def edit(path, old, new):
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


@needs_mseg
def test_our_tables_are_msegs(tree, capsys):
    assert module.main([str(tree)]) == 0
    edit(tree / "mseg/dataset_lists/voc2012/voc2012_names.txt", "horse", "pony")
    assert module.main([str(tree)]) == 1
    assert "voc2012: 13: ours 'horse', mseg-api 'pony'\n" in capsys.readouterr().out


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
def test_each_difference_is_named(tree, path, old, new, expected):
    edit(tree / "mseg" / path, old, new)
    assert differences(tree) == expected


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
        found = compare(ours, module.their_tables(tree / "mseg"))
        path.write_bytes(before)
        assert {d.theirs for d in found} == {"no such class"}, path.name
        assert {d.table for d in found} == {path.stem.replace("_to_", " to ")}


@needs_mseg
def test_a_package_that_is_not_whole(tree):
    names = tree / "mseg/dataset_lists/idd-39/idd-39_names.txt"
    names.unlink()
    with pytest.raises(DataError, match=r"idd-39_names\.txt: cannot be read .*; check the checkout"):
        differences(tree)
    (tree / "mseg/class_remapping_files/MSeg_master.tsv").write_text("universal\tbdd\nsky\tsky\n")
    with pytest.raises(DataError, match=r"MSeg_master\.tsv: has no column 'ade20k-150'; check the checkout"):
        differences(tree)


@needs_mseg
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")
def test_tables_come_from_the_revision_that_is_pinned(tree, tmp_path, monkeypatch, capsys):
    def git(*args):
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", "-C", tree, *name, *args], check=True, capture_output=True, text=True).stdout

    (tmp_path / "pyproject.toml").write_text(f'[dependency-groups]\nmseg = ["mseg @ git+{tree.as_uri()}@HEAD"]')
    monkeypatch.setattr(module, "ROOT", tmp_path)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "tables")
    assert module.main([]) == 0
    assert capsys.readouterr().out == "all class tables equal those of mseg-api\n"
    shutil.rmtree(tree)
    with pytest.raises(DataError, match=r"^file:\S+: cannot be fetched \([^\n]+\); give the folder of a checkout"):
        module.main([])
