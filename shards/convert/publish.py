"""A converted set to a bucket: shards first, manifest last, so that whoever sees the manifest can read all of it."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segstream.shards.convert.build_shard import shard_name
from segstream.shards.files import digest as sha256_of
from segstream.shards.files import make_folder, user_folder
from segstream.shards.format import manifest as manifests
from segstream.shards.format.centroids import SUMMARY, centroids_name
from segstream.shards.format.index import LABEL_MEMBERS, index_name
from segstream.shards.storage.remote import MissingError, Retries, retries_from_environment, tried
from segstream.shards.storage.s3 import S3Origin

_UPLOADS = 4  # at a time


class Target:
    """Where one shard set goes in a bucket."""

    def __init__(self, url: str, retries: Retries | None = None):
        self.url = url
        self._origin, self._retries = S3Origin(url), retries or retries_from_environment()

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of this machine for the conversion; an interrupted one goes on there, a finished one empties it.

        Raises:
            DataError: the bucket refuses; better now than after hours of conversion.
        """
        self._sha256(manifests.NAME, heard=False)
        base = user_folder("XDG_CACHE_HOME", ".cache")
        folder = base / "segstream" / "out" / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        make_folder(folder)
        yield folder
        shutil.rmtree(folder)

    def publish(self, folder: Path) -> None:
        """Upload a complete set in place of what is there; files that are there already stay.

        Raises:
            DataError: the bucket refuses, or fails until the retries are used up.
        """
        data = (folder / manifests.NAME).read_bytes()
        manifest = manifests.load_manifest(data, where=f"{folder}/{manifests.NAME}")
        digest = hashlib.sha256(data).hexdigest()
        files = {info.name: info.sha256 for info in manifest.shards}
        files |= {index_name(info.name): info.index_sha256 for info in manifest.shards}
        files |= {path.name: sha256_of(path) for path in (*folder.glob("*.centroids"), *folder.glob(SUMMARY))}
        if self._sha256(manifests.NAME) != digest:
            for name in (manifests.NAME, SUMMARY):  # from here on it is incomplete
                self._do(name, lambda name=name: self._origin.delete(name))  # type: ignore[misc]
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="upload") as pool:
            list(pool.map(lambda name: self._upload(folder / name, files[name]), files))
        self._remove_surplus(len(manifest.shards))
        self._upload(folder / manifests.NAME, digest)
        self._origin.close()

    def _upload(self, path: Path, sha256: str) -> None:
        if self._sha256(path.name) != sha256:
            self._do(path.name, lambda: self._origin.put(path.name, path, sha256))

    def _remove_surplus(self, count: int) -> None:
        """Shards of a longer set that was here before; who lists the bucket would read them."""
        while self._sha256(name := shard_name(count)) is not None:
            for surplus in (name, index_name(name), *(centroids_name(name, member) for member in LABEL_MEMBERS)):
                self._do(surplus, lambda surplus=surplus: self._origin.delete(surplus))  # type: ignore[misc]
            count += 1

    def _sha256(self, name: str, *, heard: bool = True) -> str | None:
        """Of a file in the bucket, "" if it is there but not known, None if it is not there."""
        where = f"{self.url}/{name}"
        try:
            return tried(lambda: self._origin.sha256(name) or "", where=where, retries=self._retries, heard=heard)
        except MissingError:
            return None

    def _do(self, name: str, once: Callable[[], None]) -> None:
        tried(once, where=f"{self.url}/{name}", retries=self._retries)
