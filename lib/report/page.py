"""The report as one HTML file that opens from disk: tables, curves, and the test images under every method.

Everything is inside the file: style, script, data as JSON, images as data URIs. Nothing is loaded from anywhere.
"""

import base64
import json
from collections.abc import Sequence
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.report.page_script import SCRIPT
from lib.report.page_style import STYLE
from lib.report.summary import Table

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{intro}</p>
<nav><a href="#tables">Tables</a> <a href="#charts">Curves</a> <a href="#errors">Errors</a> <a href="#gallery">Images</a></nav></header>
<main>
<div id="tables">{tables}</div>
<section><h2>Curves</h2><div id="charts" class="grid"></div></section>
<section><h2>What goes wrong</h2><div id="errors"></div></section>
<section><h2>The same images under every method</h2><div id="filters"></div><p id="count" class="note"></p>
<div id="gallery"></div></section>
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def page(title: str, intro: str, tables: Sequence[Table], data: dict[str, Any]) -> str:
    """The whole page.

    data : plain values without NaN, or ValueError. methods, list of names; classes, list of names; top, list of int;
           speed, rows {name, x, y}; curves, name of a chart -> {x, y, series: name -> list of [x, y]}; errors, method ->
           rows of results/plots/errors; effects, the same of error_effects; images, values of `gallery.describe` with
           width, height and `source` (a data URI)
    """
    # "</script>" inside a class name would end the element; JSON reads "\u003c" as "<".
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    body = "".join(table.html() for table in tables)
    return _PAGE.format(title=escape(title), intro=escape(intro), tables=body, data=text, style=STYLE, script=SCRIPT)


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
