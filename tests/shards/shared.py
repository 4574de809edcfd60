"""Reference data beside the repository, where there is any; tests that need it skip visibly without."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared"
TAXONOMY = SHARED / "mseg" / "taxonomy"
SAMPLES = SHARED / "mseg" / "samples" / "mseg-api"
CAMVID = SHARED / "camvid"

needs_mseg = pytest.mark.skipif(not TAXONOMY.is_dir(), reason="MSeg reference tables are not here")
needs_camvid = pytest.mark.skipif(not CAMVID.is_dir(), reason="the real CamVid folder is not here")
