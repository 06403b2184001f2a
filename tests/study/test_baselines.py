"""The deformable methods: their networks, their grid, their starts, their loss, and their maps of points."""

import json
import math

import pytest
import torch
from egg import scan
from monai.networks.blocks import Warp
from scripts.core.geometry import centre_mm, grid_affine, grid_to_mm, ijk_to_mm, lattice_ijk, ras_to_lps
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import make_volume
from scripts.study.baselines.common_grid import on_grid, prepare_fixed, prepare_moving
from scripts.study.baselines.field import FieldMap, displaced
from scripts.study.baselines.loss import DeformableLoss, tissues
from scripts.study.baselines.methods import NetworkDeform
from scripts.study.baselines.networks import transmorph, voxelmorph
from scripts.study.baselines.pairs import FromStartd, Truth, centres, with_both_starts
from scripts.study.baselines.validation import DensePoints
from tiny import BUNDLE


def count(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- networks ---------------------------------------------------------------------------------------------------------


def test_published_transmorph_has_the_published_number_of_parameters():
    overlay = json.loads((BUNDLE / "configs/study/baselines/transmorph_published.json").read_text())
    settings = {key.partition("#")[2]: value for key, value in overlay.items() if key.startswith("network_def#")}
    assert settings == {"width": 96, "window": [5, 6, 7], "drop_path": 0.3}
    with torch.device("meta"):
        assert round(count(transmorph(**settings)) / 1e6, 2) == 46.77  # table 4 of the TransMorph paper


def test_voxelmorph_has_its_layers():
    pairs = [(2, 16), (16, 32), (32, 32), (32, 32)]  # down
    pairs += [(32 + 32, 32), (32 + 32, 32), (16 + 32, 32)]  # up, each beside a skip
    pairs += [(32, 16), (16, 16), (16, 3)]  # at full resolution
    with torch.device("meta"):
        assert count(voxelmorph()) == sum(27 * a * b + b for a, b in pairs)


@pytest.mark.parametrize("network", [voxelmorph, transmorph])
def test_networks_answer_in_voxels_and_begin_at_rest(network):
    moving, fixed = torch.rand(2, 2, 1, 32, 48, 32)
    warped, displacement = network().eval()(moving, fixed)
    assert displacement.shape == (2, 3, 32, 48, 32) and warped.shape == moving.shape
    assert 0 < displacement.abs().max() < 0.01
    torch.testing.assert_close(warped, moving, rtol=0, atol=0.01)


def test_voxelmorph_hears_its_input():
    """Two pairs of images that differ by one standard deviation differ by more than a tenth of one before the last layer."""
    torch.manual_seed(0)
    backbone = voxelmorph().backbone
    heard = []
    backbone.net[1].final_conv_out.register_forward_pre_hook(lambda layer, given: heard.append(given[0]))
    backbone(torch.randn(2, 2, 32, 32, 32))
    assert (heard[0][0] - heard[0][1]).std() > 0.1


# --- the grid ---------------------------------------------------------------------------------------------------------


def test_the_fixed_image_is_cut_out_and_the_moving_one_laid_where_the_start_says(affine):
    fixed = scan(affine, (20, 24, 18))
    start = RigidTransform.about([5.0, -8.0, 10.0], [300.0, 40.0, -70.0], centre_mm(affine, (20, 24, 18)))
    # HU that grow with the world's x show where each voxel comes from
    place = grid_affine(2.0, (30, 30, 30), start(centre_mm(affine, (20, 24, 18))[None])[0])
    ramp = 2 * (ijk_to_mm(lattice_ijk((30, 30, 30)), place)[:, 0] - place[0, 3]).reshape(1, 30, 30, 30).float()
    moving = make_volume(ramp, place)
    shape = (16, 16, 16)
    pair = on_grid(prepare_fixed(fixed, 4.0), prepare_moving(moving, 4.0), start, shape)
    points = ijk_to_mm(lattice_ijk(shape), pair.affine)
    whole = prepare_fixed(fixed, 4.0)
    voxels = torch.linalg.inv(whole.affine) @ pair.affine
    torch.testing.assert_close(voxels[:3, :3], torch.eye(3, dtype=torch.float64), atol=1e-9, rtol=0)
    first = voxels[:3, 3].round().long()
    torch.testing.assert_close(voxels[:3, 3], first.double(), atol=1e-6, rtol=0)
    for index in ([8, 8, 8], [5, 9, 6]):
        there = [int(f) + i for f, i in zip(first, index, strict=True)]
        if all(0 <= n < size for n, size in zip(there, whole.shape[1:], strict=True)):
            assert pair.fixed[0][tuple(index)] == whole[0][tuple(there)]
            assert pair.fields[0][tuple(index)] == 1
    seen = pair.fields[1].flatten() == 1
    inner = ((start(points) - centre_mm(place, (30, 30, 30))).abs() < 26).all(-1)  # where no edge is repeated
    assert inner.sum() > 500 and seen[inner].all()
    expected = (2 * (start(points)[:, 0] - place[0, 3]) + 600) / 1200
    torch.testing.assert_close(pair.moving.flatten()[inner].double(), expected[inner], atol=1e-4, rtol=0)
    assert (pair.moving.flatten()[~seen] == 0).all()


def test_the_box_lies_round_the_smaller_field():
    large, small = (
        scan(grid_affine(8.0, (30, 30, 30), (0, 0, 0)), (30,) * 3),
        scan(grid_affine(8.0, (8, 8, 8), (40, 16, -24)), (8,) * 3),
    )
    same = RigidTransform.identity()
    for pair in ((large, small), (small, large)):
        found = on_grid(prepare_fixed(pair[0], 8.0), prepare_moving(pair[1], 8.0), same, (16, 16, 16))
        torch.testing.assert_close(centre_mm(found.affine, (16,) * 3), torch.tensor([40.0, 16, -24]).double())


# --- starts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def item():
    """A loaded pair: the moving scan is turned by a known map."""
    truth = RigidTransform.about([0, 0, 6], [100, -50, 20], [0, 0, 0])
    fixed = scan(grid_affine(6.0, (32, 32, 32), (4, 0, 8)), (32,) * 3)
    place = grid_affine(6.0, (20, 20, 20), (130, -40, 30))
    moving = scan(place, (20, 20, 20), truth.inverse())
    inner = grid_to_mm(torch.rand(6, 3, generator=torch.Generator().manual_seed(0)) - 0.5, place, (20,) * 3)
    ends = {"fixed_points": truth.inverse()(inner), "moving_points": inner}
    return {"fixed": prepare_fixed(fixed, 6.0), "moving": prepare_moving(moving, 6.0), **ends}, truth


def test_starts_are_centres_or_near_the_truth(item):
    data, truth = item
    for near, limit in ((0.0, 200.0), (1.0, 40.0)):
        made = FromStartd((32, 32, 32), near=near).set_random_state(3)(data)
        error = (made["points"] - made["targets"]).norm(dim=-1) * made["spacing"]
        assert made["start"] == ("near" if near else "centres")
        assert 0.5 < error.mean() < limit
    exact = FromStartd((32, 32, 32), near=1.0, turn_deg=0.0, shift_mm=0.0)(data)
    torch.testing.assert_close(exact["points"], exact["targets"], atol=1e-4, rtol=0)
    start = centres(data["fixed"], data["moving"])
    far = FromStartd((32, 32, 32), near=0.0)(data)
    expected = (start(data["fixed_points"]) - truth(data["fixed_points"])).norm(dim=-1).float()
    torch.testing.assert_close((far["points"] - far["targets"]).norm(dim=-1) * far["spacing"], expected, atol=1e-3, rtol=0)


def test_validation_sees_each_pair_from_both_starts_always_the_same(item):
    items = with_both_starts([{"fixed": "a"}, {"fixed": "b"}])
    assert [(i["fixed"], i["start"], i["draw"]) for i in items] == [
        ("a", "centres", 0),
        ("a", "near", 0),
        ("b", "centres", 1),
        ("b", "near", 1),
    ]
    made = [FromStartd((32, 32, 32))({**item[0], "start": "near", "draw": draw})["targets"] for draw in (1, 1, 2)]
    assert made[0].equal(made[1]) and not made[0].equal(made[2])


def test_landmarks_that_an_image_does_not_show_have_no_target(item):
    data, truth = item
    outside = torch.tensor([[500.0, 0.0, 0.0]], dtype=torch.float64)
    ends = {"fixed_points": data["fixed_points"], "moving_points": data["moving_points"]}
    ends = {"fixed_points": torch.cat([ends["fixed_points"], outside])} | {
        "moving_points": torch.cat([ends["moving_points"], truth(outside)])
    }
    made = FromStartd((32, 32, 32), near=0.0)({**data, **ends})
    assert made["targets"].isnan().any(-1).tolist() == [False] * 6 + [True]


# --- loss -------------------------------------------------------------------------------------------------------------


def truth_of(fixed, fields=None):
    nothing = torch.zeros(len(fixed), 1, 3)
    fields = torch.ones(len(fixed), 2, *fixed.shape[2:]) if fields is None else fields
    return Truth(fixed, fields, nothing, nothing, torch.ones(len(fixed)), ["near"] * len(fixed))


def test_loss_by_hand():
    still = torch.zeros(1, 3, 16, 16, 16)
    image = torch.rand(1, 1, 16, 16, 16)
    loss = DeformableLoss(smoothness=0.01, dice=0.0, window=5)
    # an image against itself, brighter, and upside down: MONAI squares the correlation
    for other in (image, 0.5 * image + 0.1, 1 - image):
        assert loss((other, still), truth_of(image)).item() == pytest.approx(-1, abs=1e-3)
    # one voxel a voxel along one axis: the squared gradient is 1 there, 0 on the eight other pairs of axes; mean over the
    # three components
    steep = torch.zeros(1, 3, 16, 16, 16)
    steep[:, 0] = torch.arange(16.0)[:, None, None]
    assert loss.gradient(steep).item() == pytest.approx(1 / 3)


def test_dice_by_hand():
    # bone is body, too: the lower half bone, the upper half water, against water everywhere
    fixed = torch.full((1, 1, 8, 8, 8), 0.5)  # 0 HU
    half = fixed.clone()
    half[..., :4] = 1.0  # 600 HU
    body, bone = tissues(half)[0]
    torch.testing.assert_close(body.mean(), torch.tensor(1.0), atol=2e-3, rtol=0)
    torch.testing.assert_close(bone[..., :4].mean(), torch.tensor(1 / (1 + math.exp(-8))))
    loss = DeformableLoss(smoothness=0.0, dice=1.0, window=3)
    everywhere = torch.ones(1, 1, 8, 8, 8)
    # body overlaps wholly (loss 0), bone not at all (loss 1): the mean of both
    assert loss.overlap(tissues(half), tissues(fixed), everywhere).item() == pytest.approx(0.5, abs=0.02)


def test_what_lies_outside_either_field_does_not_count():
    fixed, moving = torch.rand(2, 1, 1, 20, 20, 20)
    fields = torch.zeros(1, 2, 20, 20, 20)
    fields[:, 0, 2:] = 1
    fields[:, 1, :, :, :12] = 1
    still = torch.zeros(1, 3, 20, 20, 20)
    loss = DeformableLoss(window=5)
    first = loss((moving, still), truth_of(fixed, fields))
    fixed[:, :, :2], moving[..., 12:] = 0.3, 0.9
    torch.testing.assert_close(loss((moving, still), truth_of(fixed, fields)), first)
    moving[..., 6] = 0.3
    assert not loss((moving, still), truth_of(fixed, fields)).isclose(first)


# --- maps of points ---------------------------------------------------------------------------------------------------


def test_field_maps_points_as_simpleitk_does(affine):
    sitk = pytest.importorskip("SimpleITK")
    shape = (9, 8, 7)
    generator = torch.Generator().manual_seed(1)
    displacement = 4 * torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    start = RigidTransform.about([4, 7, -12], [100, -60, 30], [5, 6, 7])
    found = FieldMap.from_voxels(displacement, affine, start.matrix)
    grid = 1.6 * torch.rand(50, 3, generator=generator, dtype=torch.float64) - 0.8
    points = grid_to_mm(grid, affine, shape)
    vectors = ras_to_lps((affine[:3, :3] @ displacement.flatten(1)).T).reshape(*shape, 3)  # RAS to LPS of vectors, too
    image = sitk.GetImageFromArray(vectors.permute(2, 1, 0, 3).contiguous().numpy(), isVector=True)
    spacing = affine[:3, :3].norm(dim=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(ras_to_lps(affine[:3, 3]).tolist())
    image.SetDirection(ras_to_lps((affine[:3, :3] / spacing).T).T.flatten().tolist())
    transform = sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))
    moved = torch.tensor([transform.TransformPoint(p) for p in ras_to_lps(points).tolist()], dtype=torch.float64)
    torch.testing.assert_close(found(points), start(ras_to_lps(moved)), atol=1e-6, rtol=0)


def test_a_field_goes_from_fixed_to_moving():
    """A moving image that shows everything two voxels further along j is fetched by displacements of +2 along j."""
    fixed = torch.rand(1, 1, 16, 16, 16)
    moving = fixed.roll(2, 3)
    displacement = torch.zeros(1, 3, 16, 16, 16)
    displacement[:, 1] = 2
    torch.testing.assert_close(Warp()(moving, displacement)[..., :13, :], fixed[..., :13, :])
    point = torch.tensor([[[5.0, 6.0, 7.0]]])
    torch.testing.assert_close(displaced(point, displacement), torch.tensor([[[5.0, 8.0, 7.0]]]))
    affine = grid_affine(6.0, (16,) * 3, (10, 20, 30)) @ torch.diag(torch.tensor([1.0, -1, 1, 1])).double()
    found = FieldMap.from_voxels(displacement[0], affine, torch.eye(4))
    at = ijk_to_mm(point[0], affine)
    torch.testing.assert_close(found(at), at + torch.tensor([[0.0, -12, 0]]).double())


class Still(torch.nn.Module):
    """A network that moves nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, moving, fixed):
        return moving, self.weight * torch.ones(len(moving), 3, *moving.shape[2:])


def test_no_displacement_leaves_the_start(affine):
    fixed, moving = scan(affine, (12, 10, 8)), scan(grid_affine(3.0, (9, 9, 9), (5, 5, 5)), (9, 9, 9))
    start = RigidTransform.about([3, -2, 9], [10, 20, -30], [0, 0, 0])
    points = 100 * torch.randn(20, 3, dtype=torch.float64)
    found = NetworkDeform(Still())(fixed, moving, start, 0, 1)
    torch.testing.assert_close(found(points), start(points), atol=1e-9, rtol=0)


def test_validation_counts_the_starts_it_is_asked_for():
    truth = truth_of(torch.zeros(2, 1, 8, 8, 8))._replace(
        points=torch.full((2, 1, 3), 3.0), targets=torch.full((2, 1, 3), 4.0), spacing=torch.full((2,), 6.0)
    )
    truth = truth._replace(start=["centres", "near"])
    output = {"pred": (None, torch.ones(2, 3, 8, 8, 8)), "label": truth}
    points, targets = DensePoints("near")(output)
    assert targets[0].isnan().all() and points[1].equal(targets[1]) and targets[1].eq(24).all()
    points, targets = DensePoints("near", moved=False)(output)
    assert points[1].eq(18).all()
