"""The store that a URL names."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from segstream.shards.errors import DataError
from segstream.shards.storage.base import LocalStore, Store, local_path, scheme_of


def open_store(url: str | Path, *, account: Mapping[str, str] | None = None) -> Store:
    """The store of a shard set's URL; only what its kind needs is imported.

    Args:
        account: what is known of a server beyond the URL and the environment, named as in the configuration of a DVC
            remote: `user` and `password` of a web server, for S3 what `S3Origin` takes.

    Raises:
        UsageError: a scheme that is not supported.
        DataError: no such folder.
    """
    scheme = scheme_of(url)
    if scheme in ("http", "https", "s3"):
        from segstream.shards.storage.http import HttpOrigin
        from segstream.shards.storage.remote import RemoteStore
        from segstream.shards.storage.s3 import S3Origin

        if scheme == "s3":
            return RemoteStore(S3Origin(str(url), account=account))
        login = [quote(account[key], safe="") for key in ("user", "password") if account and key in account]
        return RemoteStore(HttpOrigin(str(url).replace("://", f"://{':'.join(login)}@", 1) if login else str(url)))
    if scheme == "dvc":
        from segstream.shards.storage.dvc import open_dvc

        return open_dvc(str(url))
    folder = local_path(url)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder DATASET/SPLIT that `segstream shard` wrote")
    return LocalStore(folder)
