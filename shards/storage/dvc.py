"""`dvc://PATH?rev=REV&repo=REPO`: the very objects that a git revision's `dvc.lock` names, read from the DVC remote.

Nothing is pulled or checked out, and DVC itself is not imported (that takes longer than the rest): a few `git show`,
and one object that lists the folder. What DVC offers for it, `dvc.api.get_url`, is compared with in the tests.
"""

import configparser
import contextlib
import hashlib
import json
import posixpath
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import user_folder
from segstream.shards.schema import parse_yaml
from segstream.shards.storage.base import Check, LocalStore, Store, scheme_of
from segstream.shards.storage.open import open_store


class DvcStore:
    """A folder in a DVC remote: names stand for content-addressed objects. Whole files are checked by their MD5."""

    def __init__(self, url: str, store: Store, objects: Mapping[str, str]):
        """`objects`: file name -> MD5-addressed path in `store`."""
        self.url, self.remote = url, store.remote
        self._store, self._objects = store, dict(objects)

    def read(self, name: str, start: int = 0, length: int | None = None, *, check: Check | None = None) -> bytes:
        """See `Store.read`."""
        if name not in self._objects:
            raise DataError(f"{self.url}: no {name} at this revision; correct the path or the revision")

        def both(data: bytes) -> None:
            if start == 0 and length is None:
                _check_md5(data, self._objects[name])
            if check is not None:
                check(data)

        try:
            return self._store.read(self._objects[name], start, length, check=both)
        except DataError as error:
            raise DataError(f"{self.url}: {name}: {error}; if it was never pushed: dvc push") from error

    def size(self, name: str) -> int | None:
        """See `Store.size`."""
        return self._store.size(self._objects[name]) if name in self._objects else None

    def close(self) -> None:
        """See `Store.close`."""
        self._store.close()


def open_dvc(url: str) -> DvcStore:
    """The store of a `dvc://` URL.

    Raises:
        UsageError: the URL, or a kind of remote that is not supported.
        DataError: no such repository, revision, path or remote, or the folder's listing cannot be read.
    """
    path, _, query = url.partition("://")[2].partition("?")
    asked = {name: unquote(value) for name, _, value in (each.partition("=") for each in query.split("&") if each)}
    if unknown := asked.keys() - {"rev", "repo"}:
        raise UsageError(f"{url}: {', '.join(sorted(unknown))} is not known; write dvc://PATH?rev=REV&repo=REPO")
    path = posixpath.normpath(unquote(path)).strip("/")
    revision = _Revision(url, Path(asked.get("repo", ".")), asked.get("rev", "HEAD"))
    out = _find_out(revision, path)
    store = _open_remote(revision)
    top = "files/md5/" if out.get("hash") == "md5" else ""  # before DVC 3
    listing = _object(top, out.get("md5"))
    if not listing.endswith(".dir"):
        raise DataError(f"{url}: {out['path']} is no folder with one hash; version_aware remotes are not supported")
    try:
        entries = json.loads(store.read(listing, check=lambda data: _check_md5(data, listing.removesuffix(".dir"))))
        found = {str(entry["relpath"]): _object(top, entry["md5"]) for entry in entries}
    except (DataError, ValueError, TypeError, LookupError) as error:
        what = error if isinstance(error, DataError) else f"{listing} is none ({error!r})"
        raise DataError(f"{url}: its listing cannot be read: {what}; if it was never pushed: dvc push") from error
    inside = posixpath.relpath(path, out["path"])
    within = "" if inside == "." else f"{inside}/"
    return DvcStore(url, store, {k.removeprefix(within): v for k, v in found.items() if k.startswith(within)})


class _Revision:
    """Files of a DVC project as one git revision has them."""

    def __init__(self, url: str, repo: Path, rev: str):
        if not repo.is_dir():
            raise DataError(f"{url}: {repo} is no folder; clone the repository and give its path as repo=")
        here = repo.resolve()
        self.url, self.rev = url, rev
        self.root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
        if self._git("rev-parse", "--git-dir") is None:
            raise DataError(f"{url}: git cannot read {self.root} ({self._said})")
        found = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
        if not found:
            names = (self._git("for-each-ref", "--format=%(refname)", "refs/exps") or "").split()
            found = next((name for name in names if name.endswith(f"/{rev}")), None)  # an experiment of DVC's
        if not found:
            raise DataError(f"{url}: {self.root} has no git revision {rev!r}; git fetch, or correct rev=")
        self.commit = found.strip()

    def show(self, path: str) -> str | None:
        """A file's text, None if the revision has none."""
        return self._git("show", f"{self.commit}:./{path}")

    def files(self) -> list[str]:
        """Paths of all files, seen from the root."""
        return (self._git("ls-tree", "-r", "-z", "--name-only", self.commit) or "").split("\0")

    def _git(self, *arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(self.root), *arguments], capture_output=True, check=False)
        except FileNotFoundError as error:
            raise DataError(f"{self.url}: needs git; install it") from error
        self._said = " ".join(done.stderr.decode(errors="replace").split())
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _find_out(revision: _Revision, path: str) -> Mapping[str, Any]:
    """The tracked output that is `path` or holds it; its `path` seen from the root."""
    known: list[str] = []
    ways = [path, *(str(parent) for parent in PurePosixPath(path).parents)]  # nearest first
    near = [file for way in ways for file in (f"{way}.dvc", posixpath.join(posixpath.dirname(way), "dvc.lock"))]
    files = [file for file in revision.files() if file.endswith(".dvc") or posixpath.basename(file) == "dvc.lock"]
    for file in sorted(files, key=lambda file: near.index(file) if file in near else len(near)):
        try:
            for folder, stage in _stages(revision, file):
                for out in stage.get("outs", []):
                    known.append(posixpath.normpath(posixpath.join(folder, out["path"])))
                    if f"{path}/".startswith(f"{known[-1]}/"):
                        return out | {"path": known[-1]}  # type: ignore[no-any-return]
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{revision.url}: {file} cannot be read ({error!r}); mend it") from error
    tracked = f"it tracks {', '.join(sorted(known)[:8])}" if known else "nothing at all"
    raise DataError(f"{revision.url}: {path} is not tracked by DVC at {revision.rev} ({tracked}); correct the path")


def _stages(revision: _Revision, file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(working folder, stage or tracked folder) of a dvc.lock or .dvc file. Where a stage works, only dvc.yaml says."""
    content, here = parse_yaml(revision.show(file) or "", at=f"{revision.url}: {file}"), posixpath.dirname(file)
    if file.endswith(".dvc"):
        yield posixpath.join(here, content.get("wdir", ".")), content
        return
    pipeline = posixpath.join(here, "dvc.yaml")
    named = (parse_yaml(revision.show(pipeline) or "", at=f"{revision.url}: {pipeline}") or {}).get("stages") or {}
    for name, stage in content["stages"].items():
        base, _, item = name.partition("@")  # of a foreach or matrix
        said = named.get(name) or named.get(base) or {}
        wdir = said.get("do", said).get("wdir", ".")
        yield posixpath.join(here, wdir.replace("${item}", item).replace("${key}", item)), stage


def _open_remote(revision: _Revision) -> Store:
    """The default remote: of the revision, or of the working tree if that had none; with this machine's secrets."""
    config = configparser.ConfigParser(interpolation=None)
    dvc = revision.root / ".dvc"
    texts = ["", revision.show(".dvc/config") or "", _text(dvc / "config.local")]
    with contextlib.suppress(UsageError):  # whoever has no home has no configuration there
        texts[0] = _text(user_folder("XDG_CONFIG_HOME", ".config") / "dvc" / "config")
    if "remote" not in texts[1]:
        texts[1] = _text(dvc / "config")
    try:
        for text in texts:
            config.read_string(text)
    except configparser.Error as error:
        kind = type(error).__name__  # its text has lines of the file, passwords among them
        raise DataError(f"{revision.url}: DVC's configuration cannot be read ({kind}); mend it") from None
    name = config.get("core", "remote", fallback="").strip("\"'")
    section = f"'remote \"{name}\"'"
    if not name or not config.has_section(section):
        raise DataError(f"{revision.url}: no default DVC remote; dvc remote add -d NAME URL, then dvc push")
    remote = {key: value.strip("\"'") for key, value in config.items(section)}
    url = remote.get("url", "")
    if scheme_of(url) in ("s3", "http", "https"):
        return open_store(url, account=remote)
    if "://" in url or "true" in (remote.get("version_aware"), remote.get("worktree")):
        what = f"remote {name} ({url}) is of a kind not supported"
        raise UsageError(f"{revision.url}: {what}; use a folder, s3:// or https://")
    return LocalStore((dvc / url).resolve())


def _object(top: str, md5: Any) -> str:
    """Where the object of an MD5 lies below a remote.

    Raises:
        DataError: it is no MD5.
    """
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", str(md5)):
        raise DataError(f"{str(md5)[:80]!r} is no MD5 of a file or folder; version_aware remotes are not supported")
    return f"{top}{md5[:2]}/{md5[2:]}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _check_md5(data: bytes, path: str) -> None:
    expected = path.removeprefix("files/md5/").replace("/", "")
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != expected:
        raise DataError(f"{path}: does not have the MD5 of its name; push it again")
