"""docs/python.md from its first line to its last, as somebody would type it."""

import re
import sys

from tests.commands import ROOT, sh


def test_the_page_runs(tmp_path):
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    said = sh(sys.executable, "page.py", cwd=tmp_path)
    for part in (
        "ade20k-150/train: 8 samples in 1 shards",
        "torch.Size([4, 3, 65, 65])",
        "step 6: loss ",
        "camvid-11: mIoU 0.",
        "torch.Size([1, 194, 96, 128])",
        "did you mean 'union-universal'",
    ):
        assert part in said
    assert (tmp_path / "runs" / "notebook" / "final.pt").exists()
