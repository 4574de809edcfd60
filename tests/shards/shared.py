"""What several tests share; reference data beside the repository, without which tests that need it skip visibly."""

import json
from pathlib import Path

import pytest

from segstream.shards.errors import DataError
from segstream.shards.storage.remote import Retries


class FakeTime:
    """Time that passes only in waits."""

    def __init__(self):
        self.waits = []

    def retries(self, **options):
        return Retries(sleep=self.waits.append, clock=lambda: sum(self.waits), **options)


PATIENT = Retries(num_attempts=25, sleep=lambda seconds: None)
SHARED = Path(__file__).parents[2].parent / "shared"
TAXONOMY = SHARED / "mseg" / "taxonomy"
SAMPLES = SHARED / "mseg" / "samples" / "mseg-api"
CAMVID = SHARED / "camvid"

needs_mseg = pytest.mark.skipif(not TAXONOMY.is_dir(), reason="MSeg reference tables are not here")
needs_camvid = pytest.mark.skipif(not CAMVID.is_dir(), reason="the real CamVid folder is not here")


def refusal(action):
    """The one line in which an action is refused."""
    with pytest.raises(DataError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_manifest(folder, change):
    """Let `change` edit a set's manifest in place, as a program would that writes no digest of it."""
    path = Path(folder) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("digest", None)
    change(manifest)
    path.write_text(json.dumps(manifest))
