"""Numbers that are no HU are told by what they are; scans in HU, with metal, padding or little of the body, pass."""

import pytest
import torch
from oracle import centred, scan
from scripts.images.hounsfield import no_hounsfield
from scripts.images.volumes import load_volume, make_volume

SHAPE = (44, 40, 48)
BODY = scan(centred("LPS", SHAPE, 5.5), SHAPE)
CROP = scan(centred("LPS", (20, 20, 20), 4.0), (20, 20, 20))  # wholly inside the body


def changed(volume, change):
    return make_volume(change(volume.as_tensor().clone()), volume.affine)


def padded(data):
    data[:, :6], data[:, -6:] = -2000.0, -2000.0
    return data


def metal(data):
    data[:, 15:25, 15:22, 20:28] = 3000.0
    return data


@pytest.mark.parametrize("volume", [BODY, CROP], ids=["body", "crop"])
@pytest.mark.parametrize("change", [lambda x: x, lambda x: x + 100, lambda x: x - 100, padded, metal, lambda x: x * 0.8])
def test_hu_pass(volume, change):
    """A CBCT's are rough."""
    assert no_hounsfield(changed(volume, change)) is None


CLEARLY = {
    "1024 added": (lambda x: x + 1024, "they lie between 24 and 1514, and fat and air are below 0 HU"),
    "1024 added and padded": (
        lambda x: padded(x + 1024),
        "20 % of them lie about 1024, as of tissue to which 1024 was added",
    ),
    "8192 added and padded": (lambda x: padded(x + 8192), "most of what is no air lies about 7188, and water is 0 HU"),
    "8 bits": (
        lambda x: (x.clamp(-600, 600) + 600) / 1200 * 255,
        "they lie between 0 and 231.6, and from fat to bone it is more",
    ),
    "0 to 1": (lambda x: (x + 1000) / 4000, "they lie between 0 and 0.3725, and from fat to bone it is more than 300 HU"),
    "as of MR": (lambda x: (x + 1000).abs(), "they lie between 0 and 1490, and fat and air are below 0 HU"),
}


@pytest.mark.parametrize("change, told", CLEARLY.values(), ids=CLEARLY)
def test_what_is_clearly_no_hu(change, told):
    why, clearly = no_hounsfield(changed(BODY, change))
    assert why.startswith(told) and clearly


@pytest.mark.parametrize(("by", "most"), [(300, 312), (-300, -288)])
def test_what_may_be_none(by, most):
    found = no_hounsfield(changed(BODY, lambda x: x + by))
    assert found == (f"most of what is no air lies about {most}, and water is 0 HU", False)


def test_real_scans_pass(shared_dir):
    for name in (
        "evaluation/totalseg_abdomen_pelvis",
        "evaluation/lung_pair/fixed",
        "hip_thigh/sts_006",
        "evaluation/alderson_long",
    ):
        scan = load_volume(shared_dir / "ct" / f"{name}.nii.gz")
        assert no_hounsfield(scan) is None
        assert no_hounsfield(changed(scan, lambda x: torch.maximum(x, torch.tensor(-1024.0)) + 1024))[1]
        corner = changed(scan, lambda x: x + 1024)
        corner[:, :4] = -2000
        assert no_hounsfield(corner)[1]
