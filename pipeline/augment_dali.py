"""The GPU engine: a batch of encoded images becomes crops by NVIDIA DALI, no pixel on the host.

It applies the same draws as `augment_opencv` and agrees with it within interpolation and JPEG decoding; labels stay
with OpenCV, which costs little and keeps them equal. Without a GPU (`device_id=None`) DALI's CPU operators run the
same graph, slowly: for tests.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from segstream.pipeline.augment_opencv import BLUR_PX, blur_kernel, seen_by
from segstream.pipeline.config import FILLS, AugmentConfig
from segstream.pipeline.decode import EncodedRegion
from segstream.pipeline.geometry import Box, Draw
from segstream.shards.errors import DataError, optional

BLUR_SIGMA = 0.3 * ((BLUR_PX - 1) * 0.5 - 1) + 0.8  # what OpenCV derives from the kernel's side


class DaliEngine:
    """Images of a batch by DALI. For one thread at a time."""

    def __init__(self, augment: AugmentConfig, *, batch: int, threads: int, device_id: int | None) -> None:
        """Build the graph.

        Args:
            augment: what draws are made by.
            batch: most images of a call.
            threads: of DALI on the host.
            device_id: number of the CUDA device, None for the host.

        Raises:
            DataError: DALI is not installed or does not find the device.
        """
        self._sizes = augment, batch, threads, device_id
        self._pipeline = _build(*self._sizes)

    def images(self, parts: Sequence[EncodedRegion], draws: Sequence[Draw], *, where: str) -> torch.Tensor:
        """The crops of one batch.

        Args:
            parts: of the stored images, each with what its draw touches (`box_touched`).
            where: names the batch in errors.

        Returns:
            (B, 3, h, w) uint8 RGB on the device, channels last in memory; the caller's own.

        Raises:
            DataError: a file cannot be decoded.
        """
        try:
            for name, values in _inputs(parts, draws).items():
                self._pipeline.feed_input(name, values)
            (made,) = self._pipeline.run()
        except RuntimeError as error:
            self._pipeline = _build(*self._sizes)  # a failed one does not run again
            cause = str(error).strip().splitlines()[0]
            raise DataError(f"{where}: DALI cannot make the images ({cause}); try loader.engine: opencv") from error
        crops_BHW3: torch.Tensor
        if self._sizes[-1] is None:
            crops_BHW3 = torch.from_numpy(np.array(made.as_tensor()))
        else:
            # Cloned, for DALI fills the same memory again.
            crops_BHW3 = torch.utils.dlpack.from_dlpack(made.as_tensor()).clone()
            torch.cuda.current_stream(self._sizes[-1]).synchronize()
        return crops_BHW3.permute(0, 3, 1, 2)


def _build(augment: AugmentConfig, batch: int, threads: int, device_id: int | None) -> Any:
    """Decode, frame, warp the part of the canvas that is needed, blur, cut and pad to the crop; between, jitter."""
    without = 'loader.engine: dali is not installed; `pip install "segstream[dali]"`, or opencv'
    dali = optional("nvidia.dali", without)
    fn, types = dali.fn, dali.types
    pipeline = dali.Pipeline(batch_size=batch, num_threads=threads, device_id=device_id, prefetch_queue_depth=1)
    with pipeline:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        integers = {
            name: fn.external_source(name=name, dtype=types.INT32, ndim=ndim)
            for name, ndim in (("frame_at", 1), ("frame_hw", 1), ("part_at", 1), ("blur_px", 0))
        }
        part_hw = fn.external_source(name="part_hw", dtype=types.FLOAT, ndim=1)
        matrix = fn.external_source(name="matrix", dtype=types.FLOAT, ndim=2)
        sigma = fn.external_source(name="blur_sigma", dtype=types.FLOAT, ndim=0)
        image = fn.decoders.image(
            encoded,
            device="cpu" if device_id is None else "mixed",
            output_type=types.RGB,
            adjust_orientation=False,
            jpeg_fancy_upsampling=True,
        )
        fill = {"axes": (0, 1), "out_of_bounds_policy": "pad", "fill_values": FILLS[augment.fill]}
        framed = fn.slice(image, start=integers["frame_at"], shape=integers["frame_hw"], **fill)
        part = fn.warp_affine(framed, matrix=matrix, size=part_hw, interp_type=types.INTERP_LINEAR)
        shown = fn.gaussian_blur(part, window_size=integers["blur_px"], sigma=sigma)
        if augment.color_jitter:
            inner = fn.external_source(name="inner", dtype=types.INT32, ndim=2)
            of_pixel, of_mean = (fn.external_source(name=n, dtype=types.FLOAT, ndim=2) for n in ("of_pixel", "of_mean"))
            shown = fn.slice(shown, start=inner[0], end=inner[1], axes=(0, 1))
            mean = fn.reductions.mean(shown, axes=(0, 1), keep_dims=True)
            jittered = fn.coord_transform(shown, M=of_pixel) + fn.coord_transform(mean, M=of_mean)
            shown = fn.cast(jittered, dtype=types.UINT8)  # rounds and clips
        pipeline.set_outputs(fn.slice(shown, start=integers["part_at"], shape=augment.crop_hw, **fill))
    try:
        pipeline.build()
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[0]
        raise DataError(f"loader.engine: dali does not start ({cause}); use opencv") from error
    return pipeline


def _inputs(parts: Sequence[EncodedRegion], draws: Sequence[Draw]) -> dict[str, Any]:
    """Arguments of the graph, by name, one row a sample."""
    seen, kernels = [seen_by(drawn) for drawn in draws], [blur_kernel(drawn) for drawn in draws]
    # A warp repeats edge pixels outside its input. Rotation brings in the fill instead: a frame of it, one pixel wide.
    frames = [1 if drawn.angle_deg else 0 for drawn in draws]
    inputs = {
        "encoded": [np.frombuffer(part.data, np.uint8) for part in parts],
        "frame_at": np.array([(-frame, -frame) for frame in frames], np.int32),
        "frame_hw": np.array(
            [[side + 2 * frame for side in part.size_hw] for frame, part in zip(frames, parts, strict=True)], np.int32
        ),
        "matrix": np.stack([_matrix(*of) for of in zip(draws, seen, frames, parts, strict=True)]),
        "part_hw": np.array([(bottom - top, right - left) for top, left, bottom, right in seen], np.float32),
        "part_at": np.array([(-top, -left) for top, left, _, _ in seen], np.int32),
        "blur_px": np.array([px if drawn.blur else 1 for drawn, (px, _) in zip(draws, kernels, strict=True)], np.int32),
        "blur_sigma": np.array([sigma or BLUR_SIGMA for _, sigma in kernels], np.float32),
    }
    if jitters := [drawn.jitter.linear for drawn in draws if drawn.jitter is not None]:
        inputs["of_pixel"] = np.array([of_pixel for of_pixel, _ in jitters], np.float32)
        inputs["of_mean"] = np.array([[of_mean] for _, of_mean in jitters], np.float32)
        valid = np.array([(drawn.valid[:2], drawn.valid[2:]) for drawn in draws], np.int32)
        inputs["inner"] = valid - np.array([box[:2] for box in seen], np.int32)[:, None]
        inputs["part_at"] = -valid[:, 0]
    return inputs


def _matrix(drawn: Draw, seen: Box, frame: int, part: EncodedRegion) -> npt.NDArray[np.float32]:
    """Pixel of what is seen -> framed pixel of the part, both counted from the corner of the first, as DALI does."""
    matrix = np.array(drawn.matrix, np.float64)
    matrix[:, 2] += matrix[:, :2] @ (seen[1] - 0.5, seen[0] - 0.5) + (frame + 0.5)
    matrix[:, 2] -= part.box[1], part.box[0]
    return matrix.astype(np.float32)
