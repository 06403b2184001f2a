"""What the physicist fills in, on the screen before printing or by hand: request, assessment, signature (TG-132)."""

from __future__ import annotations

from html import escape

from .markup import section

# AAPM TG-132's five levels of confidence in a registration, in words of our own.
LEVELS = (
    (
        "Whole scan aligned",
        "Anatomy agrees to about 1 mm wherever both scans see it.",
        "Contours may be carried over anywhere.",
    ),
    (
        "Locally aligned",
        "Anatomy agrees to about 1 mm in the region that matters; elsewhere it may not.",
        "Contours may be carried over in that region only.",
    ),
    (
        "Usable, with deformation",
        "The region that matters agrees but for mild changes of shape.",
        "Not enough alone to draw a target by: look at both scans beside each other, and allow for it in margins.",
    ),
    (
        "For orientation only",
        "What lies where cannot be relied on in millimetres.",
        "To find roughly where something is; for no contour, dose or position.",
    ),
    (
        "Not acceptable",
        "The anatomy cannot be brought together: patient, position or anatomy differ too much.",
        "Do not use. Register again by other means, or scan again.",
    ),
)
LOOKED_AT = ("bones", "skin", "the region that matters", "the edges of the common field", "landmarks")


def request() -> str:
    """What the registration was asked for."""
    fields = (
        _field("Purpose (what is carried over: target, organs, dose, position)"),
        _field("Region that matters"),
        _field("Accuracy needed there, mm"),
    )
    return section("Request", f'<div class="fields">{"".join(fields)}</div>', "whole")


def assessment() -> str:
    """Levels 0 to 4 to tick, what was looked at, comments, and who says so."""
    rows = "".join(
        f'<tr><td><label><input type="radio" name="level" value="{level}"> {level}</label></td>'
        f"<td><b>{escape(name)}</b></td><td>{escape(what)}</td><td>{escape(use)}</td></tr>"
        for level, (name, what, use) in enumerate(LEVELS)
    )
    levels = (
        '<div class="wide"><table class="words levels"><thead><tr><th scope="col">level</th><th scope="col"></th>'
        f'<th scope="col">what is seen</th><th scope="col">what it may be used for</th></tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )
    looked = "".join(f'<label><input type="checkbox"> {escape(what)}</label>' for what in LOOKED_AT)
    signed = "".join(_field(words) for words in ("Name", "Date", "Signature"))
    return section(
        "Assessment",
        '<p class="soft">For the physicist, after looking: the uncertainty of this registration on the scale of AAPM '
        "TG-132. QUIZ ticks nothing here. What is filled in on the screen is printed, and not kept.</p>"
        f'{levels}<p class="looked">Looked at: {looked}</p>'
        '<label class="field">Comments<textarea rows="3"></textarea></label>'
        f'<div class="fields">{signed}</div>',
        "whole",
    )


def _field(words: str) -> str:
    return f'<label class="field">{escape(words)}<input type="text" autocomplete="off"></label>'
