"""Pictures of any kind and videos: read as conversion reads them, written so that any player shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segstream.shards.codecs.images import Rgb, check_bytes, check_size, decode_picture
from segstream.shards.errors import DataError, UnreadableError, optional
from segstream.shards.files import ADVICE, PART, replacing

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CRF = 18  # x264's constant quality; differences to the source are hardly seen
BT709 = 1  # of ITU-T H.273; what players assume of a video today
USUAL_RATE = Fraction(25)  # frames/s of a stream that states none
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # element ids, RFC 8794 and RFC 9559
_av = partial(optional, "av", "videos need PyAV; install it with: pip install 'segstream[video]'")
_HEAD = 4096  # bytes at a file's start that hold both


def read_picture(path: Path) -> Rgb:
    """Read a picture file as conversion does, see `decode_picture`.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DataError: the file is missing, empty, no picture, or of more bytes or pixels than are decoded.
    """
    try:
        check_bytes(path.stat().st_size)
        return decode_picture(path.read_bytes()).pixels
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnreadableError as error:
        raise DataError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A video file's picture stream, upright: rotation that the file asks of players is applied."""

    path: Path
    size_hw: tuple[int, int]
    rate: Fraction
    """Frames per second; the average, where they vary."""
    count: int | None
    """Frames, as the file says; None where it does not."""
    cut_short: bool
    """The file lacks bytes at its end that its header or index announces."""

    def frames(self) -> Iterator[Rgb]:
        """Every frame once, in the order in which it is shown: (H, W, 3) uint8 RGB.

        Raises:
            DataError: a frame is damaged or missing (counted from 0); those before it were given.
        """
        import av

        done = 0
        with _opened(self.path) as container:
            try:
                for frame in _decoded(container):
                    pixels = _upright(frame)
                    if pixels.shape[:2] != self.size_hw:
                        raise DataError(f"{self.path}, frame {done}: the size changes to {pixels.shape[:2]}; split it")
                    yield pixels
                    done += 1
            except av.error.FFmpegError as error:
                raise DataError(f"{self.path}, frame {done}: cannot be decoded ({error.strerror})") from error
        if self.cut_short:
            raise DataError(f"{self.path}, frame {done}: the file is cut short there; copy it again")


def open_video(path: Path) -> Video:
    """Look at a video file; its first frame is decoded.

    Raises:
        DataError: the file is missing, has no picture stream or no frame that decodes, or PyAV (extra `video`) is not
            installed.
    """
    av = _av()
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
        count, cut = stream.frames or None, _cut_short(path, stream)
        try:
            check_size((stream.height, stream.width))
            first = next(_decoded(container), None)
        except UnreadableError as error:
            raise DataError(f"{path}: {error}") from error
        except av.error.FFmpegError as error:
            raise DataError(f"{path}, frame 0: cannot be decoded ({error.strerror})") from error
        if first is None:
            raise DataError(f"{path}: a video, of which no frame decodes")
        height, width = _upright(first).shape[:2]
    return Video(path=path, size_hw=(height, width), rate=Fraction(rate), count=count, cut_short=cut)


@contextlib.contextmanager
def write_video(path: Path, size_hw: tuple[int, int], rate: Fraction) -> Iterator[Callable[[Rgb], None]]:
    """Write a video (H.264, 4:2:0, BT.709; the container by the suffix: mp4, mkv, mov), whole or not at all.

    The format has even sides only: the last row or column of an odd side is repeated.

    Returns:
        Appends a frame, (H, W, 3) uint8 RGB; a ValueError if it is of another size or type than the video.

    Raises:
        DataError: the file cannot be written, or PyAV (extra `video`) is not installed.
    """
    av = _av()
    count = 0
    with replacing(path, ending=f"{PART}{path.suffix}") as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with av.open(str(part), "w") as container:
                stream = container.add_stream("libx264", rate=rate, options={"crf": str(CRF)})
                stream.height, stream.width = (side + side % 2 for side in size_hw)
                stream.pix_fmt, context = "yuv420p", stream.codec_context
                context.colorspace = context.color_primaries = context.color_trc = BT709

                def write(frame: Rgb) -> None:
                    nonlocal count
                    if frame.shape != (*size_hw, 3) or frame.dtype != np.uint8:
                        raise ValueError(f"frame {count}: {frame.dtype} {frame.shape}, expected uint8 {(*size_hw, 3)}")
                    padded = np.pad(frame, ((0, size_hw[0] % 2), (0, size_hw[1] % 2), (0, 0)), mode="edge")
                    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
                    picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
                    picture.pts, picture.time_base = count, 1 / rate
                    container.mux(stream.encode(picture))
                    count += 1

                yield write
                if count:
                    container.mux(stream.encode(None))  # what the encoder still holds
        except av.error.FFmpegError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); {ADVICE}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    av = _av()
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        reason = error.strerror if path.exists() else "no such file"
        raise DataError(f"{path}: not a video that can be read ({reason}); give a whole video file") from error
    with container:
        if not container.streams.video:
            raise DataError(f"{path}: no pictures in it; give a video file")
        yield container


def _decoded(container: InputContainer) -> Iterator[VideoFrame]:
    """Frames of the first picture stream; where one is damaged, those that the decoder still holds come first."""
    import av

    stream = container.streams.video[0]
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise av.error.InvalidDataError(0, "a part of a frame is missing")
            yield from packet.decode()
    except av.error.FFmpegError:
        with contextlib.suppress(av.error.EOFError):
            yield from stream.codec_context.decode(None)
        raise


def _upright(frame: VideoFrame) -> Rgb:
    """As a player turns it; `rotation` is counterclockwise, as is `rot90`."""
    pixels: Any = frame.to_ndarray(format="rgb24")
    return np.rot90(pixels, round(frame.rotation / 90)) if frame.rotation else pixels


def _cut_short(path: Path, stream: VideoStream) -> bool:
    """Whether the file ends before what it announces: by the index (mp4, mov, avi) or by its size (mkv, webm)."""
    size = path.stat().st_size
    if any(entry.pos + entry.size > size for entry in stream.index_entries):
        return True
    with path.open("rb") as file:
        head = file.read(_HEAD)
    at = head.find(_SEGMENT)
    if not head.startswith(_EBML) or at < 0 or at + len(_SEGMENT) == len(head):
        return False
    length = 9 - head[at + len(_SEGMENT)].bit_length()  # of the size: as many bytes as leading zero bits, and one
    unknown = (1 << 7 * length) - 1
    value = int.from_bytes(head[at + 4 : at + 4 + length], "big") & unknown
    return value != unknown and at + 4 + length + value > size
