"""The tensor door for whole pairs: what goes in comes out, with its frame."""

import pytest
import torch
from monai.transforms import Compose
from oracle import QUICK, TRUTH, pair, use_oracle, worst_mm
from scripts.apps.inferer import PackPaird, QuizInferer, fit_to_tensor, pack_pair, tensor_to_fit, unpack_pair
from scripts.core.errors import InputError
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import Standardised, standardise
from scripts.registration import Options
from scripts.registration.result import Matches
from scripts.registration.search import Fit


@pytest.fixture(scope="module")
def volumes():
    return [standardise(volume, 6.0) for volume in pair("LPS", "oblique")]


def same_volume(a, b):
    assert torch.equal(a.as_tensor(), b.as_tensor())
    torch.testing.assert_close(a.affine, b.affine, atol=0, rtol=0)
    assert a.meta["window"] == b.meta["window"] == (-600.0, 600.0)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_a_pair_survives_its_packing(volumes, batched, order):
    """Whichever of the two is larger; the padding goes and the affines stay, to the last bit."""
    volumes = volumes[::order]
    image = pack_pair(*volumes)
    assert image.shape[1:] == tuple(max(sizes) for sizes in zip(volumes[0].shape[1:], volumes[1].shape[1:], strict=True))
    for before, after in zip(volumes, unpack_pair(image[None] if batched else image), strict=True):
        same_volume(before, after)


def test_one_pair_at_a_time(volumes):
    image = pack_pair(*volumes)
    with pytest.raises(ValueError, match="one pair at a time, found a batch of 2"):
        unpack_pair(torch.stack([image, image]))


@pytest.mark.parametrize("fitted", [True, False])
def test_a_fit_survives_the_tensor(fitted):
    generator = torch.Generator().manual_seed(0)
    count = 17 if fitted else 0
    numbers = torch.rand(count, 8, generator=generator, dtype=torch.float64)
    inlier = torch.arange(count) % 3 == 0
    start = RigidTransform.about([0, 1, 0], [0, 0, 2], [0, 0, 0]) @ TRUTH
    maps = (TRUTH, start) if fitted else (None, None)
    matches = Matches(numbers[:, :3], numbers[:, 3:6], numbers[:, 6], numbers[:, 7], inlier)
    before = Fit(*maps, matches, 99, 3.0, 1.7)
    tensor = fit_to_tensor(before)
    assert tensor.shape == (1, 9, count)
    after = tensor_to_fit(tensor[0] if fitted else tensor)
    for name in Matches.__dataclass_fields__:
        assert torch.equal(getattr(after.matches, name), getattr(before.matches, name)), name
    assert (after.asked, after.spacing, after.peak_ratio) == (99, 3.0, 1.7)
    for one, other in ((after.transform, before.transform), (after.start, before.start)):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one.matrix, other.matrix)


def test_pack_transform(volumes):
    fixed, moving = pair("LPS", "oblique")
    steps = Compose([Standardised(["fixed", "moving"], spacing=6.0), PackPaird(["fixed", "moving"])])
    packed = steps({"fixed": fixed, "moving": moving, "name": "x"})
    assert sorted(packed) == ["image", "name"]
    for before, after in zip(volumes, unpack_pair(packed["image"]), strict=True):
        same_volume(before, after)


def test_inferer_finds_the_map(volumes, monkeypatch):
    network = use_oracle(monkeypatch)
    pred = QuizInferer(Options.of(amp="false", seed="3", search=QUICK))(pack_pair(*volumes)[None], network)
    assert pred.shape[:2] == (1, 9)
    assert worst_mm(tensor_to_fit(pred).transform) < 1.0
    again = QuizInferer(Options.of(seed=3, search=QUICK))(pack_pair(*volumes)[None], network)
    assert torch.equal(pred.as_tensor(), again.as_tensor())


def test_inferer_checks_its_options():
    with pytest.raises(InputError, match="^amp: expected true or false, found 'perhaps'"):
        Options.of(amp="perhaps")
    with pytest.raises(InputError, match="^seed: expected a whole number, found 'one'"):
        Options.of(seed="one")
    with pytest.raises(InputError, match="^search#match#querys: expected a setting of search.* --search#match#queries?"):
        Options.of(search={"match": {"querys": 5}})
