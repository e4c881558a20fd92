"""The report as one HTML file that opens from disk: tables, curves, and the test images under every method.

Everything is in the file: style, script, data as JSON, images as data URIs. Nothing is loaded from elsewhere.
Its parts are `page.html`, `page.css` and `page.js` beside this module.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.images.decode import read_image
from lib.report.summary import Table


def part(name: str) -> str:
    """A template, style or script beside this module."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def embedded(data: dict[str, Any]) -> str:
    """Plain values without NaN, or ValueError, as JSON for a script element."""
    # "</script>" inside a class name would end the element; JSON reads "\u003c" as "<".
    return json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def looked_at(folders: Mapping[str, Path]) -> str:
    """HTML: the pictures of `visualize` by method, each folded until it is opened, as data URIs.

    folders : method -> its folder, with `boxes/*.png`, `units/*.png` and `filters.png`
    """
    chapters = []
    for name, folder in folders.items():
        for title, pattern in {"detections": "boxes/*.png", "units": "units/*.png", "first layer": "*.png"}.items():
            images = [read_image(path.parent, path.name, transpose=False) for path in sorted(folder.glob(pattern))]
            sources = [data_uri(image, 1400, 80) for image in images]
            pictures = "".join(f'<p><img alt="" src="{source}"></p>' for source in sources)
            chapters.append(f"<details><summary>{escape(name)}: {title}</summary>{pictures}</details>")
    return "".join(chapters)


def page(title: str, intro: str, tables: Sequence[Table], data: dict[str, Any], seen: str = "") -> str:
    """The whole page.

    seen : HTML of `looked_at`

    data : plain values without NaN, or ValueError. methods, list of names; classes, list of names; top, list of int;
           best, int, most boxes of a method on an image; precision_recall, class -> method -> list of [x, y];
           curves, name of a chart -> {x, y, series: name -> list of [x, y]}; errors, method -> rows of
           results/plots/errors; effects, the same of error_effects; images, values of `gallery.describe` with
           width, height and `source` (a data URI)
    """
    body = "".join(table.html() for table in tables)
    return part("page.html").format(
        title=escape(title), intro=escape(intro), tables=body, data=embedded(data), style=part("page.css"),
        script=part("page.js"), seen=seen,
    )


def data_uri(image: NDArray[np.uint8], longest: int, quality: int = 85) -> str:
    """The image (uint8 RGB) as a JPEG data URI, its longer side at most `longest` pixels."""
    factor = min(1.0, longest / max(image.shape[:2]))
    if factor < 1:
        size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"an image of shape {image.shape} and type {image.dtype} cannot be written as JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(bytes(data)).decode()}"
