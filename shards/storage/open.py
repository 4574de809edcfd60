"""The store that a URL names."""

from pathlib import Path

from segstream.shards.errors import DataError
from segstream.shards.storage.base import LocalStore, Store, local_path, scheme_of


def open_store(url: str | Path) -> Store:
    """The store of a shard set's URL; only what its kind needs is imported.

    Raises:
        UsageError: a scheme that is not supported.
        DataError: no such folder.
    """
    scheme = scheme_of(url)
    if scheme in ("http", "https"):
        from segstream.shards.storage.http import HttpOrigin
        from segstream.shards.storage.remote import RemoteStore

        return RemoteStore(HttpOrigin(str(url)))
    if scheme == "dvc":
        from segstream.shards.storage.dvc import open_dvc

        return open_dvc(str(url))
    if scheme == "s3":
        from segstream.shards.storage.remote import RemoteStore
        from segstream.shards.storage.s3 import S3Origin

        return RemoteStore(S3Origin(str(url)))
    folder = local_path(url)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder DATASET/SPLIT that `segstream shard` wrote")
    return LocalStore(folder)
