"""Objects of an S3 bucket: AWS, or anything that speaks its language (`AWS_ENDPOINT_URL`)."""

import base64
import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import urllib3
from urllib3.util import parse_url

from segstream.shards.errors import DataError, UsageError
from segstream.shards.storage import remote
from segstream.shards.storage.http import CONNECTIONS, TIMEOUT_S, TRY_AGAIN, bounded, proxy_for
from segstream.shards.storage.remote import Origin, RangeRead, TransientError

_MISSING = ("404", "NoSuchKey", "NotFound")
_CREDENTIALS = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), AWS_ENDPOINT_URL, and the account's rights"
)
_ADDRESS = "check the URL and AWS_ENDPOINT_URL"


class S3Origin(Origin):
    """A prefix of a bucket, `s3://BUCKET/PREFIX`.

    Buckets are addressed by path where an endpoint is configured (own servers have no name for each bucket), by host
    name on AWS; `s3.addressing_style` in ~/.aws/config overrules.
    """

    def __init__(self, url: str, *, account: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S):
        """`account`: what is known beyond boto3's own chain (environment, ~/.aws, the machine's role).

        Named as in the configuration of a DVC remote: `endpointurl`, `profile`, `region`, `access_key_id`,
        `secret_access_key`, `session_token`, `configpath`, `credentialpath`, `ssl_verify` (a CA's file),
        `allow_anonymous_login` (requests are not signed).
        """
        self._bucket, _, prefix = url.partition("://")[2].partition("/")  # any character may be part of a prefix
        if not re.fullmatch(r"arn:[^@]+|[^:@]+", self._bucket):
            shown = re.sub("(?<=://).*@", "", url)
            raise UsageError(f"{shown}: no bucket; write s3://BUCKET/PREFIX, and credentials into the environment")
        super().__init__(url, timeout_s)
        self._prefix, self._account = prefix.strip("/"), account or {}
        self._bucket_seen = False

    def get(self, name: str, start: int, stop: int) -> RangeRead:
        """See `Origin.get`."""
        with self._sorted(name):
            found = self.client().get_object(**self._at(name), Range=f"bytes={start}-{stop - 1}")
            with found["Body"] as body:
                remote.require_plain({"Content-Encoding": found.get("ContentEncoding", "")}, where=f"{self.url}/{name}")
                data: bytes = body.read(stop - start + 1)
        return RangeRead(data, remote.total_of(found.get("ContentRange"), start), found.get("ETag"))

    def head(self, name: str) -> int:
        """See `Origin.head`."""
        with self._sorted(name):
            return int(self.client().head_object(**self._at(name))["ContentLength"])

    def put(self, name: str, path: Path, sha256: str) -> None:
        """Write a file, whole or not at all: the server checks its MD5. Raises as `get` does."""
        with path.open("rb") as file:
            md5 = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
            file.seek(0)
            with self._sorted(name):
                self.client().put_object(**self._at(name), Body=file, ContentMD5=md5, Metadata={"sha256": sha256})

    def sha256(self, name: str) -> str | None:
        """What `put` was told of a file, None if another program wrote it. Raises as `get` does."""
        with self._sorted(name):
            found: str | None = self.client().head_object(**self._at(name)).get("Metadata", {}).get("sha256")
            return found

    def delete(self, name: str) -> None:
        """Remove a file; that there is none is fine. Raises as `get` does."""
        with self._sorted(name):
            self.client().delete_object(**self._at(name))

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}".lstrip("/")}

    def _require_bucket(self, name: str) -> None:
        """Tell a bucket that is missing from a file that is: the answer to HEAD has no body that could."""
        try:
            self.client().head_bucket(Bucket=self._bucket)
        except Exception as error:
            if _answer(error)[1] != 403:  # an account may have rights to files alone
                self._sort(error, name)
        self._bucket_seen = True

    def connect(self) -> Any:
        """See `Origin.connect`."""
        try:
            import boto3
            import botocore.config
            import botocore.session
        except ImportError as error:
            raise UsageError(f"{self.url}: needs boto3; pip install 'segstream[s3]'") from error
        account, endpoint = self._account, self._account.get("endpointurl")
        with self._sorted(""):
            core = botocore.session.Session(profile=account.get("profile"))
            for variable, key in (("config_file", "configpath"), ("credentials_file", "credentialpath")):
                if account.get(key):
                    core.set_config_variable(variable, account[key])
            settings = core.get_scoped_config()
            own = endpoint or any(map(os.environ.get, ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")))
            style = (settings.get("s3") or {}).get("addressing_style")
            ca_file = account.get("ssl_verify", "")
            anonymous = account.get("allow_anonymous_login", "").lower() == "true"
            client = boto3.session.Session(botocore_session=core, region_name=account.get("region")).client(
                "s3",
                endpoint_url=endpoint,
                **{f"aws_{key}": account.get(key) for key in ("access_key_id", "secret_access_key", "session_token")},
                verify=ca_file if ca_file.lower() not in ("", "true", "false") else None,
                config=botocore.config.Config(
                    signature_version=botocore.UNSIGNED if anonymous else None,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    connect_timeout=self._timeout_s,
                    read_timeout=self._timeout_s,
                    max_pool_connections=CONNECTIONS,
                    s3={"addressing_style": style or ("path" if own or settings.get("endpoint_url") else "auto")},
                    request_checksum_calculation="when_required",  # servers other than AWS may not know the new ones
                    response_checksum_validation="when_required",
                ),
            )
            proxy_for(parse_url(client.meta.endpoint_url))
            pools = client._endpoint.http_session._pool_classes_by_scheme
            pools.update(bounded(pools))
            return client

    @contextlib.contextmanager
    def _sorted(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._sort(error, name)

    def _sort(self, error: Exception, name: str) -> NoReturn:
        """Tell apart what may be tried again, what is missing, and what the user must mend."""
        from botocore import exceptions as known

        where = f"{self.url}/{name}".rstrip("/")
        code, status = _answer(error)
        if status:
            said = f"the server answers {status}" + (f" {code}" if code != str(status) else "")
            operation = getattr(error, "operation_name", "")
            if code == "NoSuchBucket" or (operation == "HeadBucket" and status == 404):
                raise DataError(f"{where}: no bucket {self._bucket}; {_ADDRESS}") from error
            if code in _MISSING:
                if operation == "HeadObject" and not self._bucket_seen:
                    self._require_bucket(name)
                raise remote.MissingError(said) from error
            if status in TRY_AGAIN or status >= 500 or code in ("SlowDown", "RequestTimeout", "BadDigest"):
                raise TransientError(said) from error
            if status == 416:
                raise DataError(f"{where}: ends before the bytes that were asked for; upload it again") from error
            hint = _CREDENTIALS if status in (400, 401, 403) else "check the URL"
            raise DataError(f"{where}: refused ({said}); {hint}") from error
        said = " ".join(str(error).split())
        if isinstance(error, (known.NoCredentialsError, known.PartialCredentialsError)):
            raise DataError(f"{where}: no complete credentials; {_CREDENTIALS}") from error
        if isinstance(error, known.SSLError):
            remote.require_trust(error, where=where, variable="AWS_CA_BUNDLE")
        broken = (known.HTTPClientError, known.ConnectionError, known.ResponseStreamingError, known.IncompleteReadError)
        if isinstance(error, (*broken, OSError, urllib3.exceptions.HTTPError)):
            reached = not isinstance(error, (known.EndpointConnectionError, known.SSLError))
            raise TransientError(f"the connection failed ({said})", reached=reached) from error
        if isinstance(error, (known.BotoCoreError, known.ClientError, ValueError)):
            raise DataError(f"{where}: {said}; {_CREDENTIALS}") from error
        raise error


def _answer(error: Exception) -> tuple[str, int]:
    """Error code and HTTP status of what the server answered; ("", 0) if it did not."""
    found = getattr(error, "response", None) or {}
    status = int(found.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return str(found.get("Error", {}).get("Code", "")), status
