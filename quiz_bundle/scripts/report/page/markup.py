"""Pieces of HTML that the parts of the report page and the index page share; text that comes in is escaped here."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

from .pictures import Picture
from .style import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, heading: str, note: str, body: str, policy: str = POLICY) -> str:
    """A whole page that fetches nothing.

    Args:
        title: of the browser's window.
        heading: the first line on the page.
        note: HTML beside it.
        body: HTML of the sections.
        policy: Content-Security-Policy, by which the browser itself holds the page to its word.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<header><h1>{escape(heading)}</h1><span class="soft">{note}</span></header>\n{body}'
        "\n<footer><strong>Not a medical device.</strong> For research only: not for diagnosis or treatment. "
        "Whoever uses a result checks it first.</footer>\n</main>\n</body>\n</html>\n"
    )


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A number with a real minus and its unit; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−") + (f"\u00a0{unit}" if unit else "")


def triple(values: Sequence[float] | None, digits: int = 1) -> str:
    """Three numbers, or a dash."""
    return "–" if values is None else ", ".join(number(value, digits) for value in values)


def image(picture: Picture, share: float | None = None, caption: str = "") -> str:
    """A picture inside the page itself; ``share`` is its part of a row's width."""
    data = base64.b64encode(picture.jpeg).decode("ascii")
    style = "" if share is None else f' style="flex: {share:.4f} 1 0"'
    return (
        f'<figure{style}><img src="data:image/jpeg;base64,{data}" alt="{escape(picture.alt)}" '
        f'width="{picture.width}" height="{picture.height}">'
        + (f"<figcaption>{escape(caption)}</figcaption>" if caption else "")
        + "</figure>"
    )


def image_row(pictures: Sequence[Picture]) -> str:
    """Pictures side by side at one height: each gets width in proportion to its shape."""
    cells = "".join(image(picture, picture.width / picture.height, picture.title) for picture in pictures)
    return f'<div class="row">{cells}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "figures") -> str:
    """A table of text cells, "figures" set flush right or "words" flush left; the first column names the rows."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def section(title: str, body: str, kind: str = "") -> str:
    """A section with its heading; ``kind`` names its classes, "whole" keeps it on one sheet of paper."""
    opening = f'<section class="{kind}">' if kind else "<section>"
    return f"{opening}<h2>{escape(title)}</h2>{body}</section>"
