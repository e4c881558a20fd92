"""How a detector treats one image, as an HTML file: each detection with its region, scores, and what NMS removed.

Its parts are `page_trace.html`, `page_trace.css` and `page_trace.js` beside this module, and `page.css`.
"""

from html import escape
from typing import Any

from lib.report.page import embedded, part


def page(title: str, data: dict[str, Any]) -> str:
    """The whole page.

    data : plain values without NaN, or ValueError: width, height, `source` (data URI of the image), and those of
           `detection.trace.describe`
    """
    return part("page_trace.html").format(
        title=escape(title), data=embedded(data), style=part("page.css"), own=part("page_trace.css"),
        script=part("page_trace.js"),
    )
