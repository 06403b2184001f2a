"""The viewer of the report page: what it is given to show, what the page lets it do, and that a browser starts it."""

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import torch
from pypdf import PdfReader
from results import PATIENT, make_registration, refused
from scripts.core.geometry import as_affine, inside
from scripts.core.rigid import RigidTransform
from scripts.images.landmarks import PairedLandmarks
from scripts.report.page import render_page
from scripts.report.page import viewer as viewer_module
from scripts.report.page.cuts import WINDOW_HU, look
from scripts.report.page.figures import Pictures, draw_pictures
from scripts.report.page.viewer import make_viewer, marked_points, niivue, viewing_grid
from scripts.report.write import report_record

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
INSIST = bool(os.environ.get("CHROMIUM"))  # as `make test-browser` sets it: then nothing below is skipped
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture
def registration():
    return make_registration()


@pytest.fixture
def stand_in(monkeypatch):
    """Something in the place of NiiVue, which need not be installed."""
    monkeypatch.setattr(viewer_module, "niivue", lambda: ("bGlicmFyeQ==", "Copyright -- of the library"))


def unpacked(text):
    return gzip.decompress(base64.b64decode(text))


def page_of(registration, anonymous=False):
    return render_page(report_record(registration, anonymous), Pictures([], False), viewer=make_viewer(registration))


def test_without_the_extra_the_page_stays_as_strict_as_it_was(registration, monkeypatch):
    niivue.cache_clear()
    monkeypatch.setattr(viewer_module.importlib.util, "find_spec", lambda name: None)
    assert niivue() is None and make_viewer(registration) is None
    niivue.cache_clear()
    page = page_of(registration)
    assert "<script" not in page and "default-src 'none'; img-src data:; style-src 'unsafe-inline'\"" in page


def test_an_unexpected_package_is_told_and_left_out(tmp_path, monkeypatch, caplog):
    (tmp_path / "ipyniivue" / "static").mkdir(parents=True)
    (tmp_path / "ipyniivue" / "__init__.py").write_text("raise RuntimeError('never imported')")
    (tmp_path / "ipyniivue" / "static" / "widget.js").write_text("export default 1")
    monkeypatch.syspath_prepend(tmp_path)
    niivue.cache_clear()
    assert niivue() is None and "requirements-viewer.txt" in caplog.text
    niivue.cache_clear()


def test_no_fit_no_viewer(registration, stand_in):
    assert make_viewer(refused(registration, keep_fit=False)) is None
    registration = make_registration()
    registration.fixed_to_moving = RigidTransform.about([0.0, 0, 0], [5000.0, 0, 0], [0.0, 0, 0])
    assert make_viewer(registration) is None


def test_both_scans_lie_on_one_grid_in_the_fixed_world(registration, stand_in):
    viewer = make_viewer(registration)
    images = [nib.Nifti1Image.from_bytes(unpacked(text)) for text in (viewer.fixed, viewer.moving)]
    assert images[0].shape == images[1].shape and np.prod(images[0].shape) <= viewer_module.MOST_VOXELS
    assert np.allclose(images[0].affine, images[1].affine)
    assert np.allclose(np.abs(np.diag(images[0].affine)[:3]), viewer.step_mm)
    voxels = torch.cartesian_prod(*(torch.arange(2, size - 2, 7).double() for size in images[0].shape))
    places = torch.from_numpy(nib.affines.apply_affine(images[0].affine, voxels.numpy()))
    fit = registration.fixed_to_moving
    for image, volume, points in ((images[0], registration.fixed, places), (images[1], registration.moving, fit(places))):
        shown = torch.from_numpy(np.asarray(image.dataobj)[tuple(voxels.long().T.numpy())].astype(float))
        wanted, _ = look(volume, as_affine(volume.affine), points)
        held = inside(points, volume.affine, volume.shape[1:])
        assert (shown[~held] == 0).all() and (shown[held] >= 1).all() and int(held.sum()) > 50
        assert ((shown[held] - 1) / 254 - wanted[held]).abs().median() < 0.01  # of the window's 700 HU
    assert WINDOW_HU == (-250.0, 450.0)


def test_grid_gets_coarser_with_the_field():
    small, large = (torch.tensor([[0.0, 0, 0], [side] * 3], dtype=torch.float64) for side in (150.0, 900.0))
    assert viewing_grid(small)[0] == 1.5
    step, shape, affine = viewing_grid(large)
    assert step == 6.0 and shape == [150] * 3
    middle = affine[:3, :3] @ torch.full((3,), 74.5, dtype=torch.float64) + affine[:3, 3]
    assert torch.allclose(middle, large.mean(0))


def test_points_are_those_of_the_fixed_world(registration):
    fit = registration.fixed_to_moving
    fixed = registration.matches.fixed_mm[:2]
    registration.landmark_points = PairedLandmarks(["a", "b"], fixed, fit(fixed + 3.0))
    points = marked_points(registration)
    assert len(points["matches"]) == 9 and [row[4] for row in points["matches"]] == [0] + [1] * 8
    assert np.allclose([row[:3] for row in points["matches"]], registration.matches.fixed_mm, atol=0.06)
    assert np.allclose(np.subtract(np.array(points["landmarks"])[:, 3:], np.array(points["landmarks"])[:, :3]), 3, atol=0.11)
    json.dumps(points, allow_nan=False)


def test_policy_lets_only_this_script_run(registration, stand_in):
    page = page_of(registration)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data: blob:; script-src 'sha256-{digest}' blob:; style-src 'unsafe-inline'"
    )
    assert page.count("<script") == 5  # ours, and four blocks of data that no browser runs
    assert page.count('<script type="text/plain"') == 4
    assert "Copyright - - of the library" in page  # "--" would end the comment too soon
    assert "fetch(" not in script and "http" not in script


def test_anonymous_page_with_a_viewer_names_nobody(registration, stand_in):
    registration.landmark_points = PairedLandmarks([f"{PATIENT}_apex"], *(registration.matches.fixed_mm[:1],) * 2)
    page = page_of(registration, anonymous=True)
    blocks = [unpacked(text) for text in re.findall(r'id="viewer-(?:fixed|moving|points)-data">([^<]+)<', page)]
    assert len(blocks) == 3
    for content in (page.encode(), *blocks):
        assert PATIENT.encode() not in content and b"/clinic" not in content


def test_the_pinned_package_carries_niivue():
    niivue.cache_clear()
    found = niivue()
    if found is None:
        pytest.skip("ipyniivue is not installed (requirements-viewer.txt)")
    module = unpacked(found[0]).decode()
    assert module.startswith("var ") and "Niivue" in module[-600:] and "Redistribution" in found[1]


def browse(page, tmp_path, *options):
    """Open a page in a browser without a window, under a profile of its own, and hand back what it says."""
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--window-size=1200,3000", "--virtual-time-budget=600000", *options, file.as_uri(),
    ]  # fmt: skip
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    except subprocess.TimeoutExpired:
        if INSIST:
            raise
        pytest.skip("the browser did not come to an end on this machine")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: see make test-browser")
def test_a_browser_starts_the_viewer_from_the_file_alone(registration, tmp_path):
    niivue.cache_clear()
    if niivue() is None and not INSIST:
        pytest.skip("ipyniivue is not installed (requirements-viewer.txt)")
    done = browse(page_of(registration), tmp_path, "--dump-dom")
    assert re.search(r'id="viewer-status" hidden=""', done.stdout), done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: see make test-browser")
def test_a_browser_prints_the_report_on_a_few_sheets_of_a4(registration, tmp_path):
    page = render_page(report_record(registration), draw_pictures(registration), registration.answers)
    browse(page, tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer")
    sheets = PdfReader(io.BytesIO((tmp_path / "report.pdf").read_bytes())).pages
    assert 3 <= len(sheets) <= 6
    assert all(np.allclose([float(side) for side in sheet.mediabox[2:]], [595, 842], atol=2) for sheet in sheets)
    words = [sheet.extract_text() for sheet in sheets]
    assert "Accepted" in words[0] and any("Signature" in text for text in words)
