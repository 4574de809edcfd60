"""Every command that reads shards, from every kind of store: the same results as from the folder."""

import contextlib
import json
import re
import shutil

import pytest

from segstream.shards.convert.publish import Target
from tests.commands import sh
from tests.model.training.test_kills import assert_same
from tests.shards.services import NoServiceError, nginx

LOCAL = []  # what commands say of the folders
SETS = ("ade20k-150/train", "sunrgbd-37/train", "camvid-11/val")


@pytest.fixture(scope="module")
def bucket(s3, place, tmp_path_factory):
    """A bucket that holds sets/ and, under store/, what DVC would have pushed; the environment holds its account."""
    with pytest.MonkeyPatch.context() as patch, s3.bucket() as name:
        for variable, value in s3.environment(tmp_path_factory.mktemp("aws")).items():
            patch.setenv(variable, value)
        for which in SETS:
            Target(f"s3://{name}/sets/{which}").publish(place / "shards" / which)
        yield name


@pytest.fixture(scope="module")
def repository(s3, bucket, place, tmp_path_factory):
    """A DVC repository whose tag `v1` names the sets in the bucket; its working tree and cache are empty."""
    pytest.importorskip("dvc")
    repo, remote = tmp_path_factory.mktemp("repo"), tmp_path_factory.mktemp("remote")

    def do(command):
        sh(*command.split(), cwd=repo, XDG_CONFIG_HOME=str(remote / "no-config"))

    do("git init -q")
    (repo / ".dvc").mkdir()
    config = repo / ".dvc" / "config"
    config.write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {remote}\n")
    shutil.copytree(place / "shards", repo / "data" / "shards")
    do("dvc add -q data/shards")
    do("dvc push -q")
    client = s3.client()  # what `dvc push` would have done, had it been told of the bucket
    for path in (path for path in remote.rglob("*") if path.is_file()):
        client.upload_file(str(path), bucket, f"store/{path.relative_to(remote)}")
    there = f"url = s3://{bucket}/store\n    endpointurl = {s3.endpoint}"
    config.write_text(config.read_text().replace(f"url = {remote}", there))
    for command in ("git add -A", "git commit -qm data", "git tag v1"):
        do(command)
    shutil.rmtree(repo / "data" / "shards")
    shutil.rmtree(repo / ".dvc" / "cache")
    return repo


@pytest.fixture(params=["file", "http", "s3", "s3 with cache", "dvc"])
def root(request, place, tmp_path, monkeypatch):
    """The URL of a set, "" for the root of all; one kind of store after the other."""
    kind = request.param
    with contextlib.ExitStack() as running:
        if kind == "file":
            url = f"file://{place / 'shards'}"
        elif kind == "http":
            try:
                url = running.enter_context(nginx(place / "shards", tmp_path / "nginx"))
            except NoServiceError as error:
                pytest.skip(str(error))
        elif kind == "dvc":
            repo = request.getfixturevalue("repository")
            yield lambda name: f"dvc://data/shards{name and '/'}{name}?rev=v1&repo={repo}"
            assert not (repo / "data" / "shards").exists()
            assert not (repo / ".dvc" / "cache").exists()
            return
        else:
            url = f"s3://{request.getfixturevalue('bucket')}/sets"
            if kind == "s3 with cache":
                monkeypatch.setenv("SEGSTREAM_CACHE", str(tmp_path / "cache"))
                monkeypatch.setattr("segstream.shards.storage.cache.REQUEST_COST", 1)
        yield lambda name: f"{url}{name and '/'}{name}"


def test_each_command_from_each_store(root, place, tmp_path, here):
    urls = [root(name) for name in SETS]
    done = here("train", place / "recipe.yaml", "--run", tmp_path / "run", f"data.shards={root('')}")
    assert done.code == 0, done.err
    assert_same(tmp_path / "run", place / "runs/recipe")

    def rows(*args):
        done = here(*args, "--json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        return json.loads(re.sub(r'"(url|seconds)": ("[^"]*"|[\d.e-]+)', r'"\1": 0', json.dumps(found)))

    def told(sets):
        tables = [line for line in here("stats", *sets).out.splitlines() if "/" not in line]
        return rows("eval", place / "runs/recipe/final.pt", "--data", sets[2]), rows("verify", *sets), tables

    if not LOCAL:
        LOCAL.extend(told([str(place / "shards" / name) for name in SETS]))
    assert [*told(urls)] == LOCAL
    assert all(LOCAL)
    done = here("show", urls[0], "--out", tmp_path / "page.html", "--samples", 2)
    assert done.code == 0, done.err
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg") >= 2


def test_what_is_wrong_with_a_store_is_one_line_and_exit_code_1(s3, bucket, here, monkeypatch):
    url = f"s3://{bucket}/sets/camvid-11/val"

    def told(*args):
        done = here(*args)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
        return done.err

    assert f"no bucket {bucket}-absent" in told("stats", f"s3://{bucket}-absent/sets/camvid-11/val")
    assert "incomplete: no manifest.json" in told("stats", f"s3://{bucket}/sets/camvid-12/val")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        assert "refused (the server answers 403" in told("stats", url)
        assert "check AWS_ACCESS_KEY_ID" in told("show", url, "--out", "page.html")
    monkeypatch.setenv("SEGSTREAM_RETRY_S", "0.5")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert re.search(r"failed \d+ times in \d s, lastly: .*127\.0\.0\.1:9", told("stats", url))
