"""Label files as the releases code them: bytes of a PNG, JSON or .mat, each from a scene and the class tables."""

import io
import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segstream.shards.datasets.mat import need_scipy
from segstream.shards.synthetic.canvas import Scene
from segstream.shards.synthetic.label_ids import release_id, release_name, vocabulary
from segstream.shards.taxonomy import native_taxonomy, release_classes, release_remap

Ids = npt.NDArray[np.integer[Any]]
Encoder = Callable[[str, Scene], bytes]
"""(dataset, scene) -> label file."""

_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]
THINGS = {"coco-panoptic-133": range(1, 91), "wilddash2-19": range(24, 36)}  # ids whose objects are told apart
_COUNTED = ("person", "rider", "car", "truck", "bus", "motorcycle", "bicycle")
_GROUPED = 4  # of outlines of these, every so many-th is said to be a group's


def picture(suffix: str, pixels: npt.NDArray[Any]) -> bytes:
    """A PNG or JPEG of (H, W) ids, or (H, W, 3 or 4) RGB or RGBA."""
    swap = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(pixels.shape[2] if pixels.ndim == 3 else 1)
    swapped = pixels if swap is None else cv2.cvtColor(pixels, swap)
    _, buffer = cv2.imencode(suffix, swapped, _QUALITY if suffix == ".jpg" else [])
    return bytes(buffer)


def index(dataset: str, scene: Scene) -> bytes:
    """Ids as they are."""
    return picture(".png", _ids(dataset, scene))


def colour(dataset: str, scene: Scene) -> bytes:
    """Each class by its colour."""
    colours = np.asarray([colour for _, colour in release_classes(dataset)], np.uint8)
    return picture(".png", colours[_ids(dataset, scene)])


def palette(dataset: str, scene: Scene) -> bytes:
    """Ids in a palette PNG; releases without colours of their own in the tables get made-up ones."""
    stated = [colour for _, colour in release_classes(vocabulary(dataset))]
    colours = [c or (41 * i % 256, 97 * i % 256, 173 * i % 256) for i, c in enumerate(stated)]
    image = Image.fromarray(_ids(dataset, scene), "P")
    image.putpalette([channel for entry in colours for channel in entry])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def red_channel(dataset: str, scene: Scene) -> bytes:
    """Ids in the first of four channels, beside the simulator's own numbers of objects."""
    ids = _ids(dataset, scene)
    objects = np.asarray(scene.objects)[scene.segments]
    return picture(".png", np.dstack([ids, objects % 256, objects // 256, np.full_like(ids, 255)]).astype(np.uint8))


def outlined(dataset: str, scene: Scene) -> bytes:
    """Ids with a void line around every object, as VOC's annotators drew it."""
    ids = _ids(dataset, scene)
    objects = np.where(ids > 0, np.asarray(scene.objects, np.int16)[scene.segments], 0)
    square = np.ones((3, 3), np.uint8)
    border = cv2.dilate(objects, square) != cv2.erode(objects, square)
    return picture(".png", np.where(border, np.uint8(255), ids))


def matrix(dataset: str, scene: Scene) -> bytes:
    """Ids in the `LabelMap` of a MATLAB file."""
    return mat(LabelMap=_ids(dataset, scene).astype(np.uint16))


def mat(**variables: npt.NDArray[Any]) -> bytes:
    """A MATLAB file.

    Raises:
        DataError: scipy is missing.
    """
    need_scipy()
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


def instances(dataset: str, scene: Scene) -> bytes:
    """A 16-bit PNG of 256 class + number of the object within its class."""
    things = list(zip(_codes(dataset, scene).tolist(), scene.objects, strict=True))
    number: dict[tuple[int, int], int] = {}
    for thing in (things[segment] for segment in np.unique(scene.segments).tolist()):
        number.setdefault(thing, sum(code == thing[0] for code, _ in number) % 256)
    values = [256 * thing[0] + number.get(thing, 0) for thing in things]
    return picture(".png", np.asarray(values, np.uint16)[scene.segments])


def parts(dataset: str, scene: Scene) -> bytes:
    """ADE20K's full release, twice as large: the class in red and green, the number of the object in blue."""
    codes = _codes(dataset, scene)
    things = codes * 65536 + np.asarray(scene.objects)
    drawn = np.unique(things[scene.segments])
    numbers = (np.searchsorted(drawn, things) % 255 + 1) * (codes > 0)
    colours = np.stack([codes // 256 * 10, codes % 256, numbers], axis=-1).astype(np.uint8)
    return picture(".png", colours[scene.segments].repeat(2, axis=0).repeat(2, axis=1))


def panoptic(dataset: str, scene: Scene) -> bytes:
    """Segment ids as colours (R + 256 G + 65536 B): one per thing, one per class of stuff, 0 for no class."""
    numbers = _segment_numbers(dataset, scene)[scene.segments]
    return picture(".png", np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1).astype(np.uint8))


def panoptic_record(dataset: str, scene: Scene, stem: str) -> dict[str, Any]:
    """What the annotation file says of an image and its segments."""
    codes, numbers = _codes(dataset, scene), _segment_numbers(dataset, scene)
    segments = numbers[scene.segments]
    infos = []
    for number in np.unique(segments[segments > 0]).tolist():
        mask = (segments == number).astype(np.uint8)
        infos.append(
            {
                "id": number,
                "category_id": int(codes[np.flatnonzero(numbers == number)[0]]),
                "iscrowd": 0,
                "bbox": list(cv2.boundingRect(mask)),
                "area": int(mask.sum()),
            }
        )
    height, width = segments.shape
    name = int(stem) if stem.isdigit() else stem
    return {
        "image": {"id": name, "file_name": f"{stem}.jpg", "height": height, "width": width, "license": 0},
        "annotation": {"image_id": name, "file_name": f"{stem}.png", "segments_info": infos},
    }


def categories(dataset: str) -> list[dict[str, Any]]:
    """The class list of a panoptic annotation file."""
    native = native_taxonomy(dataset)
    table = release_remap(dataset).table
    ids = [int(np.flatnonzero(table == i)[0]) for i in range(native.num_classes)]
    known = sorted(zip(ids, native.classes, strict=True))
    stated = list(enumerate(name for name, _ in release_classes(dataset)))
    return [
        {"id": i, "name": name, "supercategory": name.partition("-")[0], "isthing": int(i in THINGS[dataset])}
        for i, name in stated or known
    ]


def polygons(dataset: str, scene: Scene) -> bytes:
    """Cityscapes' JSON of outlines, back to front: painted in order they give the ids, pixel for pixel."""
    return _frame(scene, [{"label": label, "polygon": points} for label, points in _outlines(dataset, scene)])


def numbered_polygons(dataset: str, scene: Scene) -> bytes:
    """IDD's form of them: with ids, and with objects that were given up (deleted, or never more than a line)."""
    height, width = scene.segments.shape
    frame = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    drawn = [(label, points, 0) for label, points in _outlines(dataset, scene)]
    drawn += [("car", frame, 1), ("person", frame[::2], 0)]
    keys = ("id", "label", "polygon", "deleted", "draw", "verified")
    return _frame(scene, [dict(zip(keys, (2 * i + 7, *one, True, 0), strict=True)) for i, one in enumerate(drawn)])


def _frame(scene: Scene, objects: list[dict[str, Any]]) -> bytes:
    height, width = scene.segments.shape
    return json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}).encode()


def _outlines(dataset: str, scene: Scene) -> list[tuple[str, list[list[int]]]]:
    """(label, outer contour) of every connected piece of an object; larger ones first, so that holes fill up later.

    Pieces are 4-connected: of two such pieces one lies within a hole of the other or outside of it altogether.
    """
    codes = _codes(dataset, scene)
    regions = (codes * 65536 + np.asarray(scene.objects))[scene.segments]
    height, width = regions.shape
    # pixels, and between them whether they belong together
    bridges = np.ones((2 * height - 1, 2 * width - 1), np.uint8)
    bridges[1::2, 1::2] = 0
    bridges[1::2, ::2] = regions[1:] == regions[:-1]
    bridges[::2, 1::2] = regions[:, 1:] == regions[:, :-1]
    _, pieces, boxes, _ = cv2.connectedComponentsWithStats(bridges, connectivity=4)
    pieces = pieces[::2, ::2]
    found, things = [], 0
    for piece, box in enumerate(boxes[1:, :4].tolist(), 1):
        x, y = box[0] // 2, box[1] // 2
        mask = pieces[y : y + (box[3] + 1) // 2, x : x + (box[2] + 1) // 2] == piece
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
        points = contours[0][:, 0].tolist()
        name = release_name(dataset, int(regions[points[0][1], points[0][0]]) >> 16)
        if name in _COUNTED:
            things += 1
            name += "group" * (things % _GROUPED == 0)
        points += points[-1:] * (3 - len(points))  # annotators' tools ask for three corners
        found.append((-cv2.contourArea(np.asarray(points)), piece, name, points))
    return [(label, points) for _, _, label, points in sorted(found)]


def _segment_numbers(dataset: str, scene: Scene) -> Ids:
    codes = _codes(dataset, scene)
    things = np.isin(codes, THINGS[dataset])
    return (np.where(things, scene.objects, 0) * 512 + codes) * (codes > 0)


def _ids(dataset: str, scene: Scene) -> Ids:
    """(H, W) ids of the released coding, in as few bytes as they need."""
    codes = _codes(dataset, scene)
    few: Ids = codes.astype(np.uint8) if codes.max() < 256 else codes.astype(np.uint16)
    return few[scene.segments]


def _codes(dataset: str, scene: Scene) -> npt.NDArray[np.int64]:
    """By segment: id of the released coding."""
    return np.asarray([release_id(dataset, concept) for concept in scene.concepts], np.int64)
