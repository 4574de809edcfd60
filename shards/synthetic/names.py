"""Image names as the releases form them, and the parts of paths that follow from a name."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, Literal

Split = Literal["train", "val"]

_CITIES = {
    "train": ("aachen", "bochum", "bremen", "cologne", "ulm", "zurich"),
    "val": ("frankfurt", "lindau", "munster"),
}
_ADE_SCENES = ("a/abbey", "b/bathroom", "k/kitchen", "l/living_room", "outliers/s/street", "s/street")
_BRAVO = (
    "bravo_ACDC/fog/val/GOPR0476/GOPR0476_frame_{:06d}_rgb_anon.png",
    "bravo_SMIYC/RoadAnomaly21/images/validation{:04d}.jpg",
    "bravo_outofcontext/lindau/lindau_{:06d}_000019_leftImg8bit.png",
    "bravo_synflare/munster/munster_{:06d}_000019_leftImg8bit.png",
    "bravo_synobjs/armchair/frankfurt_{:06d}_000019_leftImg8bit.png",
    "bravo_synrain/frankfurt/frankfurt_{:06d}_000019_leftImg8bit.png",
)


def stem(form: str, dataset: str, split: Split, i: int) -> str:
    """Name of image number `i` of a split, which `form` puts together."""
    digest = hashlib.sha256(f"{dataset}/{split}/{i}".encode()).digest()
    cities = _CITIES[split]
    return form.format(
        n=i + 1,
        city=cities[i % len(cities)],
        turn=i // len(cities),
        drive=i // 4,
        frame=31 * i + 5506,
        a=digest.hex()[:8],
        b=digest.hex()[8:16],
        token=base64.urlsafe_b64encode(digest)[:22].decode(),
        bravo=_BRAVO[i % len(_BRAVO)].format(i // len(_BRAVO)),
    )


def fields(folder: str, stem: str) -> dict[str, Any]:
    """What paths are made of."""
    top, _, name = stem.rpartition("/")
    digits = re.search(r"\d+$", stem)
    number = int(digits[0]) if digits else 0
    scene = _ADE_SCENES[number % len(_ADE_SCENES)]
    return {"folder": folder, "stem": stem, "top": top, "name": name, "number": number, "scene": scene}
