"""The page of a cohort: every case with its verdict and a small picture, what needs looking at first."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from ...core.atomic import write_whole
from .templating import number, percent, render

NAME = "index.html"
THUMBNAIL_PIXELS = 150
FAILED, REFUSED, ACCEPTED = "failed", "not accepted", "accepted"


def write_index(
    output_dir: str | Path, records: Sequence[Mapping], total: int | None = None, by_doubt: bool = False
) -> Path:
    """Write ``index.html`` beside the cases' folders, whole or not at all; called again as the cohort grows.

    Args:
        output_dir: where ``summary.csv`` goes.
        records: one a case with the columns of ``cohort.SUMMARY`` and its ``folder``; names as they may be shown.
        total: how many cases there are to be.
        by_doubt: each kind by its expected error, the largest first.

    Returns:
        The page's path.
    """
    path = Path(output_dir) / NAME
    write_whole(path, render_index(output_dir, records, total, by_doubt))
    return path


def render_index(
    output_dir: str | Path, records: Sequence[Mapping], total: int | None = None, by_doubt: bool = False
) -> str:
    """The page: failed cases first, then refused ones, then accepted ones; each kind in the order given, or by doubt."""
    records = sorted(records, key=_doubt) if by_doubt else records
    kinds = [_kind(record) for record in records]
    rank = {FAILED: 0, REFUSED: 1, ACCEPTED: 2}
    rows = [
        _row(Path(output_dir), record, kind)
        for record, kind in sorted(zip(records, kinds, strict=True), key=lambda pair: rank[pair[1]])
    ]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in (ACCEPTED, REFUSED, FAILED))
    done = f"{len(records)} cases" if total in (None, len(records)) else f"{len(records)} of {total} cases done"
    return render("index.html", rows=rows, counts=counts, done=done)


def _doubt(record: Mapping) -> float:
    """Smaller for a case that is in more doubt; smallest where nothing can be expected at all."""
    expected = record.get("expected_tre_mm")
    return -math.inf if expected is None else -float(expected)


def _kind(record: Mapping) -> str:
    if record["status"] == "failed":
        return FAILED
    return ACCEPTED if record.get("accepted") else REFUSED


def _row(output_dir: Path, record: Mapping, kind: str) -> dict:
    """One case: its kind and name, the address of its page and a small picture if there is one, and the cells behind."""
    folder = str(record.get("folder", record["name"]))
    report = output_dir / folder / "report.html"
    there = kind != FAILED and report.is_file()
    return {
        "kind": kind,
        "name": str(record["name"]),
        "address": f"{quote(folder)}/report.html" if there else "",
        "picture": thumbnail(report, report.stat().st_mtime_ns) if there else "",
        "cells": (
            number(record.get("expected_tre_mm")),
            number(record.get("tre_mean_mm")),
            percent(record.get("overlap")),
            str(record.get("inliers", "–")),
            number(record.get("seconds")),
            str(record.get("message") or ""),
        ),
    }


@lru_cache(maxsize=4096)
def thumbnail(report: Path, changed: int) -> str:
    """The coronal overlay of a report page, after registration if there is one, made small: a JPEG as base64.

    Args:
        report: the page.
        changed: when it was written; an old picture is not given for a new page.
    """
    from PIL import Image

    text = report.read_text(encoding="utf-8")
    for state in ("after", "before"):
        if found := re.search(rf'<img src="data:image/jpeg;base64,([^"]+)" alt="Coronal cut {state} registration', text):
            break
    else:
        return ""
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as picture:
        picture.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        small = io.BytesIO()
        picture.save(small, format="jpeg", quality=80)
    return base64.b64encode(small.getvalue()).decode("ascii")
