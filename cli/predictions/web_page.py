"""A web page for one model: a picture in, its classes out. Nothing is kept, nothing is loaded from elsewhere."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy.typing as npt

from segstream.cli.console import note
from segstream.cli.predictions.overlay import draw, present
from segstream.cli.report.html import render
from segstream.colors import class_colors
from segstream.model.inference.predictor import Predictor
from segstream.shards.codecs.images import Rgb, TooLargeError, decode_picture, max_pixels
from segstream.shards.errors import DataError, UnreadableError, optional

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MAX_BYTES = 32 << 20
MAX_PIXELS = 40_000_000  # what a photograph has today; the scores of every class are held at this size
UPLOADS = 8  # held at a time; further ones wait unread
UPLOAD_S = 60  # for a whole upload, so that none keeps its place for ever
TOO_LARGE = f"a file of more than {MAX_BYTES >> 20} MB; make it smaller"
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data: blob:; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class RefusedError(Exception):
    """A request that cannot be answered; the message is for the person at the page."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Service:
    """One model in memory, asked by one request at a time, from decoding to drawing: so many pixels are in memory."""

    name: str
    predictor: Predictor
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, data: bytes) -> dict[str, Any]:
        """Segment a picture file.

        Returns:
            JSON-able: `width`, `height`, `seconds`; `classes` (id, name, share in 0..1, color), the largest first;
            `label`, a PNG of ids, and `overlay`, a JPEG, both in base64.

        Raises:
            RefusedError: no picture that can be read, or of too many pixels, or of sides too different.
        """
        start, most = time.monotonic(), min(MAX_PIXELS, max_pixels())
        try:
            with self._turn:
                return self._segmented(decode_picture(data, most=most).pixels, start)
        except TooLargeError as error:
            raise RefusedError(413, f"a picture of more than {most / 1e6:g} million pixels; make it smaller") from error
        except (UnreadableError, DataError) as error:
            status = 422 if isinstance(error, DataError) else 415
            raise RefusedError(status, f"cannot be segmented: {error}") from error

    def _segmented(self, image: Rgb, start: float) -> dict[str, Any]:
        (label,) = self.predictor([image])
        names = self.predictor.taxonomy.classes
        colors = class_colors(names)
        rows = [
            {"id": c.id, "name": c.name, "share": c.share, "color": "#{:02x}{:02x}{:02x}".format(*colors[c.id])}
            for c in present(label, names)
        ]
        overlay = cv2.cvtColor(draw(image, label, names), cv2.COLOR_RGB2BGR)
        files = {"label": _encoded(".png", label), "overlay": _encoded(".jpg", overlay)}
        height, width = label.shape
        return {"width": width, "height": height, "classes": rows, **files, "seconds": time.monotonic() - start}


def application(service: Service) -> Starlette:
    """The page at `/`; `POST /segment` takes a picture file as its body and answers in JSON.

    Raises:
        DataError: Starlette (extra `serve`) is not installed.
    """
    optional("starlette", "the web page needs Starlette; install it with: pip install 'segstream[serve]'")
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, JSONResponse
    from starlette.routing import Route

    taxonomy = service.predictor.taxonomy
    page = render("serve.html", name=service.name, taxonomy=taxonomy, max_bytes=MAX_BYTES, too_large=TOO_LARGE)

    async def home(request: Request) -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"})

    places, worker = asyncio.Semaphore(UPLOADS), ThreadPoolExecutor(1)  # malloc keeps what each thread has used

    async def segment(request: Request) -> Response:
        try:
            async with places:
                data, loop = await _body(request), asyncio.get_running_loop()
                return JSONResponse(await loop.run_in_executor(worker, service.answer, data))
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, status_code=error.status)

    return Starlette(routes=[Route("/", home), Route("/segment", segment, methods=["POST"])])


def serve_forever(service: Service, host: str, port: int) -> None:
    """Answer until told to stop.

    Args:
        port: 0 takes a free one.

    Raises:
        DataError: the address cannot be used, or what the page needs (extra `serve`) is not installed.
    """
    app = application(service)
    import uvicorn

    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise DataError(f"{host}:{port}: cannot be served at ({error.strerror}); choose another --port") from error
    shown = f"[{host}]" if ":" in host else host
    note(f"serve: {service.name} at http://{shown}:{listener.getsockname()[1]}/ (Ctrl-C stops it)")
    uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run(sockets=[listener])


async def _body(request: Request) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for part in request.stream():
                data += part
                if len(data) > MAX_BYTES:
                    raise RefusedError(413, TOO_LARGE)
    except TimeoutError as error:
        raise RefusedError(408, f"{len(data)} bytes arrived in {UPLOAD_S} s; send the file faster") from error
    return bytes(data)


def _encoded(suffix: str, pixels: npt.NDArray[Any]) -> str:
    return base64.b64encode(cv2.imencode(suffix, pixels)[1].tobytes()).decode("ascii")
