"""The cohort's page: what needs looking at first, links that work, small pictures, nothing that would hide a name."""

import base64
import io
import re

import pytest
from PIL import Image
from scripts.report.page.index import thumbnail, write_index

DONE = {"status": "done", "expected_tre_mm": 3.14, "tre_mean_mm": None, "inliers": 321, "overlap": 0.5, "seconds": 2.0}


@pytest.fixture
def cohort(tmp_path):
    """Records of four cases, two of which have a page with a picture."""
    for name, state, colour in (("good one", "after", "red"), ("lost", "before", "blue")):
        picture = io.BytesIO()
        Image.new("RGB", (600, 300), colour).save(picture, format="jpeg")
        data = base64.b64encode(picture.getvalue()).decode()
        (tmp_path / name).mkdir()
        image = f'<img src="data:image/jpeg;base64,{data}" alt="Coronal cut {state} registration: ...">'
        (tmp_path / name / "report.html").write_text(image)
    return tmp_path, [
        {"name": "good one", "folder": "good one", "accepted": True, "message": "", **DONE},
        {"name": "lost", "folder": "lost", "accepted": False, "message": "Too <few> agree.", **DONE},
        {"name": "no page", "folder": "no page", "accepted": True, "message": "", **DONE, "status": "already done"},
        {"name": "bad", "status": "failed", "message": "fixed: expected a file, found nothing; check it."},
    ]


def test_failed_and_refused_cases_come_first(cohort):
    page = write_index(*cohort, total=9).read_text()
    assert re.findall(r'<tr class="([^"]+)">', page) == ["failed", "not-accepted", "accepted", "accepted"]
    assert "4 of 9 cases done: 2 accepted, 1 not accepted, 1 failed" in page
    assert page.index("bad</td>") < page.index("Too &lt;few&gt; agree.") < page.index("good one</a>") < page.index("no page")
    assert "<td>3.1</td><td>–</td><td>50 %</td><td>321</td><td>2.0</td>" in page


def test_what_is_most_in_doubt_comes_first(tmp_path):
    """Within each kind; where nothing can be expected at all the doubt is largest."""
    kinds = [("a", True, 2.0), ("b", False, 14.0), ("c", True, 6.5), ("d", False, None), ("e", False, 45.0)]
    records = [{**DONE, "name": n, "accepted": ok, "expected_tre_mm": mm, "message": ""} for n, ok, mm in kinds]
    for by_doubt, order in ((True, "debca"), (False, "bdeac")):
        page = write_index(tmp_path, records, by_doubt=by_doubt).read_text()
        assert "".join(re.findall(r"<tr class=\"[^\"]+\"><td>(\w)</td>", page)) == order


def test_links_and_pictures_are_of_the_pages_there_are(cohort):
    folder, records = cohort
    page = write_index(folder, records).read_text()
    assert set(re.findall(r'href="([^"]+)"', page)) == {"good%20one/report.html", "lost/report.html"}
    assert page.count("data:image/jpeg") == 2 and "4 cases:" in page
    assert not re.search(r"https?:|<script", page) and str(folder) not in page


def test_thumbnails_are_small_and_of_the_newest_page(cohort):
    report = cohort[0] / "good one" / "report.html"
    small = Image.open(io.BytesIO(base64.b64decode(thumbnail(report, 1))))
    assert small.size == (150, 75)
    report.write_text("nothing to see")
    assert thumbnail(report, 2) == ""
