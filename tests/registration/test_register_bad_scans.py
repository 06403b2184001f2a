"""Scans that are not what they should be: values that are no HU, masks beside their scan, fields in centimetres."""

import pytest
import torch
from inference import write_scan
from oracle import pair, quick, use_oracle
from scripts.core.errors import InputError
from scripts.core.geometry import corners_mm
from scripts.images.volumes import make_volume
from scripts.registration.register import load_case, register
from scripts.report.page.advice import advice_on
from scripts.report.page.document import render_page
from scripts.report.page.figures import Pictures
from scripts.report.write import report_record


@pytest.fixture
def network(monkeypatch):
    return use_oracle(monkeypatch)


def shifted_values(volume, by):
    return make_volume(volume.as_tensor() + by, volume.affine, volume.meta)


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_values_that_are_no_hu_are_a_reason(network, caplog, role):
    scans = dict(zip(("fixed", "moving"), pair(), strict=True))
    good = register(**scans, network=network, options=quick())
    assert good.verdict.accepted and good.notes == {} and not caplog.records
    scans[role] = shifted_values(scans[role], 1024)
    result = register(**scans, network=network, options=quick())
    assert not result.verdict.accepted
    assert result.verdict.reasons[0].startswith(f"The {role} scan's values are no HU: they lie between 24 and ")
    assert result.verdict.reasons[0].endswith(", and fat and air are below 0 HU.")
    assert [record.message for record in caplog.records] == [result.verdict.reasons[0]]
    assert report_record(result)["inputs"][role]["note"] == result.verdict.reasons[0]
    assert "as CT images or NIfTI in HU" in advice_on(result.verdict.reasons[0])


def test_values_that_may_be_no_hu_are_a_note(network, caplog):
    """A CBCT whose water lies at 300: said, and judged like any other."""
    fixed, moving = pair()
    result = register(fixed, shifted_values(moving, 300), network=network, options=quick(refine=False))
    note = "The moving scan's values may be no HU: most of what is no air lies about 312, and water is 0 HU."
    assert result.notes == {"moving": note} and note not in result.verdict.reasons
    record = report_record(result)
    assert record["inputs"]["moving"]["note"] == note and "note" not in record["inputs"]["fixed"]
    assert note in render_page(record, Pictures([], False)).replace("&#39;", "'")


FAR = "expected something within the {} scan, found none of it there: it spans [{}, {}] x "


@pytest.mark.parametrize(("key", "kind"), [("fixed_region", "fixed"), ("moving_labels", "moving")])
def test_a_mask_that_does_not_touch_its_scan(network, tmp_path, key, kind):
    """A voxel at the scan's edge is enough; beside it, in a file or not, it is refused before anything is computed."""
    scans = dict(zip(("fixed", "moving"), pair("RAS", "LPS"), strict=True))
    own = scans[kind]
    marked = torch.zeros_like(own.as_tensor())
    marked[0, 0] = 1
    for shift, touches in ((0, True), (-0.49, True), (-0.51, False), (own.shape[1] + 1, False)):
        affine = own.affine.clone()
        affine[:3, 3] += own.affine[:3, 0] * shift
        mask = make_volume(marked, affine)
        if touches:
            load_case({**scans, key: mask})
            continue
        write_scan(tmp_path / "m.nii.gz", mask)
        for given, called in ((mask, key), (tmp_path / "m.nii.gz", str(tmp_path / "m.nii.gz"))):
            with pytest.raises(InputError) as caught:
                register(**scans, network=network, options=quick(), **{key: given})
            low, high = sorted(float(corners_mm(affine, own.shape[1:])[:, 0].sort().values[end]) for end in (0, -1))
            assert str(caught.value).startswith(f"{called}: {FAR.format(kind, f'{low:.0f}', f'{high:.0f}')}")
            assert str(caught.value).endswith(f"; give one that was made on the {kind} scan.")


def test_a_label_map_without_labels_touches_by_its_field():
    fixed, moving = pair()
    nothing = make_volume(torch.zeros_like(moving.as_tensor()), moving.affine)
    assert load_case({"fixed": fixed, "moving": moving, "moving_labels": nothing})["moving_labels"] is not None
    away = nothing.affine.clone()
    away[:3, 3] += 1e4
    nothing = make_volume(nothing.as_tensor(), away)
    with pytest.raises(InputError, match="moving_labels: expected something within the moving scan, found none"):
        load_case({"fixed": fixed, "moving": moving, "moving_labels": nothing})


def test_a_scan_in_centimetres_is_refused():
    """44 x 40 x 48 voxels of 5.5 mm, taken for 0.55 mm; a thin scan is none of these."""
    fixed, moving = pair()
    small = make_volume(
        fixed.as_tensor(), torch.diag(torch.tensor([0.1, 0.1, 0.1, 1.0], dtype=torch.float64)) @ fixed.affine
    )
    with pytest.raises(InputError) as caught:
        load_case({"fixed": small, "moving": moving})
    told = "expected a field of view of 50 mm or more along two axes, found 24.2 x 22 x 26.4 mm; check the voxel sizes"
    assert str(caught.value).startswith(f"fixed: {told}")
    load_case({"fixed": fixed, "moving": make_volume(moving.as_tensor()[:, :3], moving.affine)})
