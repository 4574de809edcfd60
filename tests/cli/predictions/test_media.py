"""Pictures of every kind come out as conversion reads them, videos frame for frame; damage is said, never read."""

import io
import struct
import wave
from fractions import Fraction
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from PIL import Image

from segstream.cli.predictions.media import open_video, read_picture, write_video
from segstream.shards.errors import DataError
from tests.shards.shared import SHARED
from tests.shards.trees import png_file

ORIENTATION, SAMPLES = 0x0112, SHARED / "mseg/samples"
UPRIGHT = {  # EXIF 2.32, tag 0x0112: what to do with the stored rows and columns
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def patches(height=32, width=48):
    """Six flat patches, no two alike, so that every turn shows."""
    colors = np.array([[(200, 30, 40), (20, 180, 60), (30, 60, 210)], [(230, 220, 40), (90, 90, 90), (200, 60, 200)]])
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * 3 // width
    return colors[rows][:, columns].astype(np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("suffix", "far"), [(".png", 0), (".jpg", 6)])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix, far):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = Image.fromarray(patches())
    options = {"quality": 98, "subsampling": 0} if suffix == ".jpg" else {}
    pixels = read_picture(saved(tmp_path / f"a{suffix}", image, exif=exif, **options))
    expected = UPRIGHT[orientation](patches())
    assert pixels.shape == expected.shape
    inside = np.abs(pixels.astype(int) - expected).max(axis=2)
    assert np.percentile(inside, 95) <= far


def test_cmyk_and_ycck_jpegs_show_the_colours_that_were_put_in(tmp_path):
    cmyk = np.concatenate([255 - patches(), np.zeros((32, 48, 1), np.uint8)], axis=2)  # C = 255 - R, ..., K = 0
    path = saved(tmp_path / "cmyk.jpg", Image.fromarray(cmyk, mode="CMYK"), quality=98)
    assert np.abs(read_picture(path).astype(int) - patches()).max() <= 8
    # YCCK: the inks as luma and chroma. Pillow writes inks inverted and cannot write YCCK, so turn planes and mark.
    luma = np.asarray(Image.fromarray(cmyk[..., :3]).convert("YCbCr"))
    planes = np.concatenate([255 - luma, cmyk[..., 3:]], axis=2)
    data = bytearray(saved(tmp_path / "ycck.jpg", Image.fromarray(planes, mode="CMYK"), quality=98).read_bytes())
    data[data.index(b"Adobe") + 11] = 2
    (tmp_path / "ycck.jpg").write_bytes(data)
    assert np.abs(read_picture(tmp_path / "ycck.jpg").astype(int) - patches()).max() <= 8


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path, suffix):
    wide = (np.arange(256 * 256, dtype=np.uint32) * 97 % 65536).astype(np.uint16).reshape(256, 256)
    path = saved(tmp_path / f"grey{suffix}", Image.fromarray(wide))
    assert (read_picture(path) == (wide // 256)[..., None]).all()
    if suffix == ".png":  # Pillow knows no RGB TIFF of 16 bits
        rgb = np.stack([wide, wide.T, 65535 - wide], axis=2)
        assert cv2.imwrite(str(tmp_path / "rgb.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        assert (read_picture(tmp_path / "rgb.png") == rgb // 256).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_stored_colours_show_however_transparent(tmp_path, mode, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, len(mode)), np.uint8)
    if (mode, suffix) == ("LA", ".webp"):
        pytest.skip("WebP knows no grey")
    path = saved(
        tmp_path / f"a{suffix}",
        Image.fromarray(pixels),
        **({"lossless": True, "exact": True} if suffix == ".webp" else {}),
    )
    assert (read_picture(path) == pixels[..., :-1]).all()


def test_palettes_and_single_bits(tmp_path):
    indices = np.arange(32 * 48).reshape(32, 48) % 3
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])
    assert (read_picture(saved(tmp_path / "plain.png", image)) == colors[indices]).all()
    assert (read_picture(saved(tmp_path / "clear.png", image, transparency=1)) == colors[indices]).all()
    bits = indices == 1
    assert (read_picture(saved(tmp_path / "bits.png", Image.fromarray(bits))) == 255 * bits[..., None]).all()


BOMB = png_file(b"\0" * 99, (20000, 20000, 8, 2, 0, 0, 0))  # a few bytes that promise 20000 x 20000 pixels


def _bytes_of(form, pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


WIDE = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
NOT_PICTURES = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"not a picture at all\n" * 50, "begins with b'not a pi'"),
    "half.jpg": (_bytes_of("JPEG", patches(256, 256))[:-900], "does not decode"),
    "half.png": (_bytes_of("PNG", patches(256, 256))[:-40], "truncated"),
    "half16.png": (_bytes_of("PNG", WIDE)[:-30], "truncated"),
    "half.webp": (_bytes_of("WEBP", patches(256, 256))[:-30], "does not decode"),
    "bomb.png": (BOMB, "too large"),
    "float.tif": (_bytes_of("TIFF", np.ones((4, 4), np.float32)), "mode F"),
}


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_what_is_no_whole_picture_is_an_error_that_names_it(tmp_path, name):
    data, reason = NOT_PICTURES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        read_picture(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"nowhere\.jpg: cannot be read"):
        read_picture(tmp_path / "nowhere.jpg")


BITS, BLOCK = 6, 16
needs_av = pytest.mark.skipif(find_spec("av") is None, reason="needs PyAV")


def numbered(number):
    """A frame that shows its number as black and white blocks, which compression cannot confuse; the rest is noise."""
    frame = np.random.default_rng(number).integers(0, 256, (32, 96, 3), np.uint8)
    for bit in range(BITS):
        frame[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 20
    return frame


def number_of(frame):
    centres = [frame[BLOCK // 2, bit * BLOCK + BLOCK // 2].mean() > 128 for bit in range(BITS)]
    return sum(1 << bit for bit, white in enumerate(centres) if white)


def written(path, frames=50):
    """A video of so many numbered frames, or of those given."""
    with write_video(path, (32, 96), Fraction(30000, 1001)) as write:
        for frame in map(numbered, range(frames)) if isinstance(frames, int) else frames:
            write(frame)
    return path


@needs_av
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_every_frame_comes_back_once_and_in_order(tmp_path, suffix):
    video = open_video(written(tmp_path / f"a{suffix}"))
    assert (video.size_hw, video.rate) == ((32, 96), Fraction(30000, 1001))
    assert video.count == (50 if suffix != ".mkv" else None)  # Matroska has no such field
    for _ in "12":  # and again
        assert [number_of(frame) for frame in video.frames()] == list(range(50))
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


@needs_av
def test_colours_survive_a_video_and_an_odd_side_is_repeated_once(tmp_path):
    with write_video(tmp_path / "a.mp4", (33, 97), Fraction(10)) as write:
        write(patches(33, 97))
    assert open_video(tmp_path / "a.mp4").size_hw == (34, 98)
    (frame,) = open_video(tmp_path / "a.mp4").frames()
    expected = np.pad(patches(33, 97), ((0, 1), (0, 1), (0, 0)), mode="edge")
    assert np.abs(frame.astype(int) - expected)[8::16, 8::16].max() <= 6
    assert np.abs(frame[33].astype(int) - expected[33]).mean() <= 8


MATRICES = {  # QuickTime File Format, "matrix structure": x' = ax + cy, y' = bx + dy, with y downwards
    "as stored": ((1, 0, 0, 1), 0),
    "a quarter clockwise": ((0, 1, -1, 0), -1),
    "half": ((-1, 0, 0, -1), 2),
    "a quarter back": ((0, -1, 1, 0), 1),
}


@needs_av
@pytest.mark.parametrize("turn", MATRICES)
def test_a_rotation_in_the_file_is_applied(tmp_path, turn):
    (a, b, c, d), quarters = MATRICES[turn]
    data, one = bytearray(written(tmp_path / "a.mp4", 3).read_bytes()), 65536
    at = data.index(b"tkhd") + 44
    assert struct.unpack(">9i", data[at : at + 36]) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data)
    video = open_video(tmp_path / "a.mp4")
    frames = list(video.frames())
    assert video.size_hw == frames[0].shape[:2] == np.rot90(numbered(0), quarters).shape[:2]
    assert [number_of(np.rot90(frame, -quarters)) for frame in frames] == [0, 1, 2]


def _with_index_first(path):
    """An mp4 whose index comes before its frames, as the web has them."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 96, 32, "yuv420p"
        for number in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@needs_av
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", ["mp4", "mkv"])
def test_frames_before_a_cut_are_given_and_then_the_frame_is_named(tmp_path, form, share):
    path = _with_index_first(tmp_path / "a.mp4") if form == "mp4" else written(tmp_path / "a.mkv")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    seen = []
    with pytest.raises(DataError, match=f"a.{form}, frame ") as caught:
        seen.extend(number_of(frame) for frame in open_video(path).frames())
    assert f"frame {len(seen)}: " in str(caught.value)
    assert sorted(set(seen)) == seen
    assert seen[: len(seen) - 3] == list(range(len(seen) - 3))  # the last may lack frames that were to come between
    assert len(seen) >= share * 50 * 0.4


@needs_av
def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "empty.mkv").touch()
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    no_index = written(tmp_path / "no-index.mp4")
    no_index.write_bytes(no_index.read_bytes()[:-200])
    reasons = dict.fromkeys(("no-index.mp4", "text.mp4", "empty.mkv"), "not a video")
    for name, reason in (
        reasons | {"sound.wav": "no pictures in it", "nowhere.mp4": "not a video .*no such file"}
    ).items():
        with pytest.raises(DataError, match=rf"{name}: {reason}"):
            open_video(tmp_path / name)


@needs_av
def test_frames_too_large_are_told_by_the_header(tmp_path, monkeypatch):
    with write_video(tmp_path / "a.mp4", (32, 48), Fraction(5)) as write:
        write(patches())
    monkeypatch.setenv("SEGSTREAM_MAX_PIXELS", "1000")
    with pytest.raises(DataError, match=r"a\.mp4: too large: 48 x 32 pixels by its header, more than 1,000; set"):
        open_video(tmp_path / "a.mp4")


def test_a_video_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(ValueError, match="frame 1"):
        written(tmp_path / "a.mp4", [numbered(0), numbered(1)[:16]])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"), write_video(tmp_path / "file/a.mp4", (8, 8), Fraction(1)):
        pass


@needs_av
def test_a_real_video_has_the_frames_that_opencv_finds():
    if not SAMPLES.is_dir():
        pytest.skip(f"needs a real video in {SAMPLES}")
    (path,) = SAMPLES.rglob("*.mp4")
    video = open_video(path)
    capture = cv2.VideoCapture(str(path))
    count = 0
    for frame in video.frames():
        found, bgr = capture.read()
        assert found
        if count % 10 == 0:
            assert np.abs(frame.astype(int) - cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)).mean() < 3
        count += 1
    assert not capture.read()[0]
    assert video.count in (None, count)
