"""What the HTML pages share: the template engine, and pictures inside the page, which loads nothing from anywhere."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segstream.shards.errors import optional


def render(template: str, **values: Any) -> str:
    """A page of `templates/` as one string of HTML; every value is escaped.

    Raises:
        DataError: jinja2 (extra `report`) is not installed.
    """
    jinja2 = optional("jinja2", "HTML pages need jinja2; install it with: pip install 'segstream[report]'")
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page: str = environment.get_template(template).render(values)
    return page


def shrunk(picture: Image.Image, side: int, how: Image.Resampling) -> Image.Image:
    """The picture with its longer side at most `side` pixels; never enlarged."""
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), how)


def one_byte(picture: Image.Image) -> Image.Image:
    """The same picture as palette entries, if 256 suffice."""
    pixels = np.asarray(picture)
    colors, entries = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colors) > 256:
        return picture
    small = Image.fromarray(entries.reshape(pixels.shape[:2]).astype(np.uint8), mode="P")
    small.putpalette(colors.ravel().tolist())
    return small


def data_url(picture: Image.Image, form: str, **options: Any) -> str:
    """A picture as a `data:` URL; `form` and `options` as Pillow's `save` takes them."""
    out = io.BytesIO()
    picture.save(out, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
