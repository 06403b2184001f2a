"""The part of the report page to look at: the viewer, overlays, checkerboard, close-ups, the map of matches."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from .markup import image, image_row, section
from .pictures import Pictures
from .viewer import Viewer

KEY = (
    '<p class="key soft"><span><i style="background:#1a80f2"></i>fixed</span>'
    '<span><i style="background:#e6800d"></i>moving</span>'
    '<span><i style="background:#c9c9c9"></i>both agree, or fixed alone</span>'
    "<span>lines: fields of view; letters: the patient’s right, left, anterior, posterior, head, feet</span></p>"
)


def viewing(viewer: Viewer | None) -> str:
    """The pair to scroll through; nothing without NiiVue. Not for paper: the pictures below are."""
    if viewer is None:
        return ""
    landmarks = (
        '<label><input type="checkbox" id="viewer-landmarks" checked> landmarks (ring: fixed, cross: moving)</label>'
        if viewer.landmarks
        else ""
    )
    controls = (
        '<label>fixed <input type="range" id="viewer-share" min="0" max="100" value="50" '
        'aria-label="from the fixed scan to the moving one"> moving</label>'
        '<label><input type="checkbox" id="viewer-checker"> checkerboard</label>'
        '<label><input type="checkbox" id="viewer-matches"> matches (colour: distance from the map)</label>'
        f"{landmarks}"
        '<label>planes <select id="viewer-planes"><option value="MULTIPLANAR">all three</option>'
        '<option value="AXIAL">axial</option><option value="CORONAL">coronal</option>'
        '<option value="SAGITTAL">sagittal</option></select></label>'
        '<span class="soft">R, A, S mm: <output id="viewer-place">–</output></span>'
    )
    data = "".join(
        f'<script type="text/plain" id="viewer-{name}-data">{content}</script>'
        for name, content in (
            ("library", viewer.library),
            ("fixed", viewer.fixed),
            ("moving", viewer.moving),
            ("points", viewer.points),
        )
    )
    return (
        '<section class="screen" id="viewer"><h2>Look through the pair</h2>'
        '<p class="soft">The moving scan through the fitted map, over the fixed one. Wheel: through the slices of the plane '
        "under the pointer. Click or drag: cut there. With the picture in focus, arrow keys move left, right, to head and "
        f"feet, page keys to front and back. Voxels of {viewer.step_mm:g} mm, for a look and not for measuring.</p>"
        f'<div class="controls">{controls}</div>'
        '<div class="stage" id="viewer-stage"><canvas id="viewer-canvas" aria-label="the registered pair in three planes">'
        '</canvas><canvas id="viewer-marks" aria-hidden="true"></canvas></div>'
        '<p class="soft" id="viewer-status">The viewer starts when it comes into sight; it needs a browser with WebGL 2.</p>'
        f"{data}<script>{viewer.script}</script>"
        f"<!-- NiiVue, in the data above:\n{viewer.notice.replace('--', '- -')}-->"
        '<p class="soft">Viewer: NiiVue, BSD-2-Clause, inside this page; nothing is loaded from elsewhere.</p></section>'
    )


def overlays(record: Mapping, pictures: Pictures) -> str:
    """Three planes before and after."""
    if pictures.centred:
        before = (
            "The two files’ world frames have nothing in common: as they stand, the scans lie beside each other. "
            "To have something to look at, their centres are put on each other here."
        )
    else:
        before = "Where the two files’ own world frames place the scans, cut through the middle of what they share."
    blocks = [("Before", before, pictures.of("before"))]
    if after := pictures.of("after"):
        trust = "" if record["accepted"] else " <b>This registration is not accepted.</b>"
        blocks.append(("After", f"The moving scan through the fitted rigid map.{trust}", after))
    elif record["fixed_to_moving_ras"] is None:
        blocks.append(("After", "There is no fit, so there is nothing to show.", []))
    else:
        blocks.append(("After", "The fitted map takes the moving scan out of the fixed scan’s field: nothing to show.", []))
    body = "".join(
        f'<div class="whole"><h3>{head}</h3><p class="soft">{text}</p>{image_row(images)}</div>'
        for head, text, images in blocks
    )
    return section("Before and after", f"{KEY}{body}")


def checkerboard(pictures: Pictures) -> str:
    """Squares of both scans in three planes."""
    if not (images := pictures.of("checkerboard")):
        return ""
    text = (
        "After registration, squares of the fixed scan (bluish) and of the moving scan (orange) in turn, over what both "
        "hold. Bones and skin should run on across the squares; soft organs may not, a rigid map cannot follow them."
    )
    return section("Checkerboard", f'<p class="soft">{text}</p>{image_row(images)}', "whole")


def closeups(record: Mapping, pictures: Pictures) -> str:
    """The split views at the landmarks, or at places spread over the common field."""
    if not (images := pictures.of("closeups")):
        return ""
    where = (
        "At the landmarks with the largest errors"
        if record.get("landmarks")
        else "At six matches that agree with the map, as far apart as they come"
    )
    text = (
        f"{where}: axial, coronal and sagittal, 64 mm wide, quarters of the fixed scan (upper left, lower right; bluish) "
        "and of the moving scan (orange). Edges should run on from one quarter to the next. Ring: where the point lies in "
        "the fixed scan. Cross: where the map takes its partner in the moving scan."
    )
    return section("Close-ups", f'<p class="soft">{text}</p>{image(images[0])}', "whole")


def matches(record: Mapping, pictures: Pictures) -> str:
    """Where the matches lie that agree and that do not."""
    if not (images := pictures.of("matches")):
        return section("Map of matches", "<p>No match passed the filters.</p>", "whole")
    text = (
        f"{record['matches']} points of the fixed scan for which the network found a partner in the moving scan, "
        f"coloured by the {images[0].title}; the scan behind them is seen through, as in an X-ray. "
        f"{record['inliers']} agree with the map (dots), {record['matches'] - record['inliers']} do not (crosses). Dots all "
        "over the common field speak for the map; crosses in one part of it say that this part has moved by itself, or "
        "that the network is not sure there; dots in one place only leave the turn open."
    )
    return section("Map of matches", f'<p class="soft">{escape(text)}</p>{image(images[0])}', "whole")
