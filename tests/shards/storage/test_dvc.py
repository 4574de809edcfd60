import base64
import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from segstream.shards.checks.verify import verify
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.reader import open_shards
from segstream.shards.storage.open import open_store
from tests.shards import trees
from tests.shards.servers import KEY, SECRET, serving
from tests.shards.services import NoServiceError, certificate

REMOTE = "[core]\n    remote = r\n['remote \"r\"']\n    url = "
IDENTITY = {f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def run(folder, *command):
    env = os.environ | IDENTITY | {"DVC_NO_ANALYTICS": "1", "XDG_CONFIG_HOME": str(folder.parent / "config")}
    return subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout


def git(folder, *arguments):
    return run(folder, "git", *arguments)


def ade(folder, seed):
    raw = trees.ade20k(folder / f"raw{seed}", seed=seed)
    return Path(
        convert(dataset="ade20k-150", split="train", raw=raw, out=str(folder / f"out{seed}"), shard_samples=2).url
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository with two tagged versions of one set, pushed; its working tree and cache are empty."""
    pytest.importorskip("dvc")
    folder = tmp_path_factory.mktemp("project")
    repo, remote = folder / "repo", folder / "server" / "bucket" / "store"
    repo.mkdir()
    dvc = functools.partial(run, repo, sys.executable, "-m", "dvc")
    git(repo, "init", "-q")
    dvc("init", "-q")
    dvc("remote", "add", "-q", "-d", "store", str(remote))
    for seed in (1, 2):
        source = ade(folder, seed)
        cmd = f"mkdir -p data && rm -rf data/ade && mkdir data/ade && cp -r {source} data/ade/"
        stage = {"cmd": cmd, "outs": ["data/ade/train"]}
        (repo / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"shard": stage}}))
        dvc("repro", "-q")
        dvc("push", "-q")
        git(repo, "add", "-A")
        git(repo, "commit", "-qm", f"version {seed}")
        git(repo, "tag", f"v{seed}")
    shutil.rmtree(repo / "data")
    shutil.rmtree(repo / ".dvc" / "cache")
    return folder


def url(project, rev, path="data/ade/train"):
    return f"dvc://{path}?rev={rev}&repo={project / 'repo'}"


def test_two_versions_side_by_side_without_pulling(project):
    for seed in (1, 2):
        with (
            open_shards(url(project, f"v{seed}")) as shards,
            open_shards(project / f"out{seed}/ade20k-150/train") as own,
        ):
            assert shards.manifest == own.manifest
            for i in range(5):
                assert shards.read(i, "image") == own.read(i, "image")
                assert shards.read(i, "native") == own.read(i, "native")
    assert open_shards(url(project, "v1")).manifest != open_shards(url(project, "v2")).manifest
    assert open_shards(f"dvc://data/ade/train?repo={project / 'repo'}").manifest.digest  # HEAD
    assert verify(url(project, "v1"), workers=2).ok
    assert not (project / "repo" / "data").exists()
    assert not (project / "repo" / ".dvc" / "cache").exists()


def test_the_objects_are_those_that_dvc_itself_names(project):
    api = pytest.importorskip("dvc.api")
    store = open_store(url(project, "v1"))
    for name in ("manifest.json", "shard-000002.tar", "shard-000000.idx.json"):
        expected = api.get_url(f"data/ade/train/{name}", repo=str(project / "repo"), rev="v1")
        assert str(store._store.folder / store._objects[name]) == expected
    assert len(store._objects) == 7


@contextlib.contextmanager
def bucket_as_remote(project, server, more=""):
    """The machine's own configuration names the bucket, and the account with it."""
    remote = {"url": "s3://bucket/store", "endpointurl": server.url, "access_key_id": KEY, "secret_access_key": SECRET}
    local = project / "repo" / ".dvc" / "config.local"
    local.write_text("\n    ".join(["['remote \"store\"']", *(f"{k} = {v}" for k, v in remote.items()), more]))
    try:
        yield
    finally:
        local.unlink()


def test_from_an_s3_remote(project):
    with (
        serving(project / "server", s3=True) as server,
        bucket_as_remote(project, server),
        open_shards(url(project, "v1")) as shards,
        open_shards(url(project, "v2")) as other,
    ):
        server.script += ["flip", "503", "reset"]
        own = open_shards(project / "out1/ade20k-150/train")
        assert [shards.read(i, "image") for i in range(5)] == [own.read(i, "image") for i in range(5)]
        assert shards.read(0, "image") != other.read(0, "image")


def test_a_remote_that_anybody_may_read(project, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    own = open_shards(project / "out1/ade20k-150/train").read(0, "image")
    for s3 in (True, False):
        with serving(project / "server", s3=s3, anonymous=True) as server:
            place = f"endpointurl = {server.url}" if s3 else f"url = {server.url}/bucket/store"
            local = project / "repo" / ".dvc" / "config.local"
            local.write_text(
                "['remote \"store\"']\n    url = s3://bucket/store\n    allow_anonymous_login = true\n    " + place
                if s3
                else f"['remote \"store\"']\n    {place}\n    user = me\n    password = pa@ss"
            )
            try:
                assert open_shards(url(project, "v1")).read(0, "image") == own
            finally:
                local.unlink()
    assert set(server.logins) == {(f"Basic {base64.b64encode(b'me:pa@ss').decode()}", None)}


def test_the_remote_names_the_ca_of_its_server(project, tmp_path, monkeypatch):
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    try:
        tls = certificate(tmp_path)
    except NoServiceError as error:
        pytest.skip(str(error))
    with serving(project / "server", s3=True, tls=tls) as server:
        for untrusted in ("", "ssl_verify = true"):
            refused = pytest.raises(DataError, match="certificate is not trusted")
            with bucket_as_remote(project, server, untrusted), refused:
                open_shards(url(project, "v1"))
        with bucket_as_remote(project, server, f"ssl_verify = {tls.ca}"):
            assert open_shards(url(project, "v1")).read(0, "image")


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("data/ade/train?rev=v9&repo={0}", DataError, "has no git revision 'v9'"),
        ("data/ade/val?rev=v1&repo={0}", DataError, r"/val is not tracked by DVC at v1 \(it tracks data/ade/train\)"),
        ("data/ade?rev=v1&repo={0}", DataError, "data/ade is not tracked by DVC"),
        ("data/ade/train?revision=v1&repo={0}", UsageError, "revision is not known"),
        ("data/ade/train?repo=/nowhere/at/all", DataError, "clone the repository"),
        ("data/ade/train?repo={1}", DataError, "git cannot read .*not a git repository"),
    ],
)
def test_what_is_not_there(project, tmp_path, url, error, message):
    with pytest.raises(error, match=message):
        open_shards(f"dvc://{url.format(project / 'repo', tmp_path)}")


def test_an_object_that_was_not_pushed_and_one_that_is_damaged(project):
    store = open_store(url(project, "v1"))
    path = store._store.folder / store._objects["shard-000000.idx.json"]
    content, mode = path.read_bytes(), path.stat().st_mode
    path.chmod(0o644)
    try:
        path.write_bytes(content.replace(b"ADE", b"ADA", 1))
        with pytest.raises(DataError, match=r"shard-000000\.idx\.json: .*does not have the MD5"):
            open_shards(url(project, "v1")).entry(0)
        path.unlink()
        with pytest.raises(DataError, match=r"shard-000000\.idx\.json: .*dvc push"):
            open_shards(url(project, "v1")).entry(0)
    finally:
        path.write_bytes(content)
        path.chmod(mode)


def handmade(folder, config, files):
    """A repository that tracks data/big by a `.dvc` file, written without DVC."""
    repo = folder / "repo"
    (repo / ".dvc").mkdir(parents=True)
    listing = json.dumps([{"md5": hashlib.md5(v).hexdigest(), "relpath": k} for k, v in files.items()]).encode()
    for data, end in [(listing, ".dir"), *((v, "") for v in files.values())]:
        md5 = hashlib.md5(data).hexdigest()
        path = folder / "remote" / "files" / "md5" / md5[:2] / (md5[2:] + end)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (repo / "data").mkdir()
    out = {"md5": hashlib.md5(listing).hexdigest() + ".dir", "hash": "md5", "path": "big"}
    (repo / "data" / "big.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    (repo / ".dvc" / "config").write_text(config)
    git(repo, "init", "-q")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "all")
    return repo


def test_five_hundred_shards_in_a_folder_below_what_is_tracked(tmp_path):
    files = {f"ade/train/shard-{n:06d}.tar": b"%d" % n for n in range(500)} | {"other": b"x"}
    repo = handmade(tmp_path, f"{REMOTE}../../remote\n", files)
    begun = time.perf_counter()
    store = open_store(f"dvc://data/big/ade/train?repo={repo / 'data'}")
    assert time.perf_counter() - begun < 3  # 0.02 s measured with a folder as the remote
    assert store.size("other") is None
    assert [store.read(f"shard-{n:06d}.tar") for n in range(500)] == [b"%d" % n for n in range(500)]


FOLDER = "[core]\n    remote = r\n['remote \"r\"']\n    url = ../../remote\n"


@pytest.mark.parametrize(
    ("stage", "name", "path"),
    [
        ({"wdir": "../work"}, "a", "work/out"),
        ({"foreach": ["x", "y"], "do": {"wdir": "../work/${item}"}}, "a@y", "work/y/out"),
        ({}, "a", "jobs/out"),
    ],
)
def test_a_stage_says_where_its_paths_begin(tmp_path, stage, name, path):
    """As DVC reads dvc.yaml and dvc.lock, wherever they lie."""
    repo = handmade(tmp_path, FOLDER, {"a": b"1"})
    (repo / "data/big.dvc").rename(repo / "lock")
    out = yaml.safe_load((repo / "lock").read_text())["outs"][0] | {"path": "out"}
    (repo / "jobs").mkdir()
    (repo / "jobs/dvc.yaml").write_text(yaml.safe_dump({"stages": {"a": stage}}))
    (repo / "jobs/dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {name: {"outs": [out]}}}))
    (repo / "data/x.dvc").write_text(yaml.safe_dump({"wdir": "../w", "outs": [out]}))
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "stages")
    for where in (path, "w/out"):
        assert open_store(f"dvc://{where}?repo={repo}").read("a") == b"1"
    for where in {"out", "data/out", "jobs/out"} - {path}:
        with pytest.raises(DataError, match=rf"{where} is not tracked .*it tracks {path}, w/out|w/out, {path}"):
            open_store(f"dvc://{where}?repo={repo}")


@pytest.mark.parametrize("listing", ["[]x", "{}", '[{"relpath": "a"}]', '[{"relpath": "a", "md5": "../../../../etc"}]'])
def test_a_listing_that_is_none(tmp_path, listing):
    repo = handmade(tmp_path, FOLDER, {"a": b"1"})
    md5 = hashlib.md5(listing.encode()).hexdigest()
    (tmp_path / "remote/files/md5" / md5[:2]).mkdir(parents=True, exist_ok=True)
    (tmp_path / "remote/files/md5" / md5[:2] / f"{md5[2:]}.dir").write_text(listing)
    tracked = yaml.safe_load((repo / "data/big.dvc").read_text())
    tracked["outs"][0]["md5"] = f"{md5}.dir"
    (repo / "data/big.dvc").write_text(yaml.safe_dump(tracked))
    git(repo, "commit", "-qam", "listing")
    if listing == "{}":
        assert open_store(f"dvc://data/big?repo={repo}").size("a") is None
        return
    with pytest.raises(DataError, match=r"its listing cannot be read: .*(is none|no MD5)"):
        open_store(f"dvc://data/big?repo={repo}")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "no default DVC remote"),
        ("[core]\n    remote = r\n", "no default DVC remote"),
        (f"{REMOTE}gs://bucket/x\n", "gs://bucket/x.* not supported"),
        (f"{REMOTE}../../elsewhere\n", "listing cannot be read: .*missing.*dvc push"),
        ("password = secret\n", "configuration cannot be read"),
    ],
)
def test_remotes_that_cannot_be_used(tmp_path, monkeypatch, config, message):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    repo = handmade(tmp_path, config, {"a": b"a"})
    with pytest.raises(DataError, match=message) as caught:
        open_shards(f"dvc://data/big?repo={repo}")
    assert "secret" not in str(caught.value)
