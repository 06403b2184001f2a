"""The templates of the pages: where they lie, and how numbers, pictures and words are written in them."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from .advice import advice_on

TEMPLATES = Path(__file__).with_name("templates")


def render(name: str, folder: Path = TEMPLATES, **values: object) -> str:
    """A template filled in; every text among the values is escaped where it is put into the page.

    Args:
        name: the template's file.
        folder: where it lies; what it extends and includes may lie in ``TEMPLATES`` too.
        values: what it shows. One that the template needs and does not get is an error.
    """
    return environment(folder).get_template(name).render(**values)


@lru_cache(maxsize=4)
def environment(folder: Path = TEMPLATES) -> Environment:
    """Jinja2 with escaping on for every file, and the filters below."""
    made = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"number": number, "triple": triple, "code": code, "jpeg": jpeg, "advice": advice_on}
    made.globals["source"] = lambda name: Markup(made.loader.get_source(made, name)[0].rstrip())
    return made


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A number with a real minus and its unit; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−") + (f"\u00a0{unit}" if unit else "")


def triple(values: Sequence[float] | None, digits: int = 1) -> str:
    """Three numbers, or a dash."""
    return "–" if values is None else ", ".join(number(value, digits) for value in values)


def percent(share: float | None) -> str:
    """A share of 1 in percent, or a dash."""
    return "–" if share is None else f"{100 * share:.0f} %"


def code(text: str) -> Markup:
    """Escaped text whose `words` are set as code."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(text.split("`"))
    )


def jpeg(content: bytes) -> str:
    """The address of a JPEG file that lies inside the page itself."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
