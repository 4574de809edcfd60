"""Servers, commands and a trained model that tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commands import here as here
from tests.commands import place as place
from tests.commands import segstream as segstream
from tests.shards.services import NoServiceError, S3Service, s3_service


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Service]:
    """A real S3 server: Swift, or the one that SEGSTREAM_TEST_S3 names."""
    pytest.importorskip("boto3")
    try:
        with s3_service(tmp_path_factory.mktemp("s3")) as service:
            yield service
    except NoServiceError as error:
        pytest.skip(str(error))
