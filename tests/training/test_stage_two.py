"""The second stage: L = L_pair + alpha * L_trans, differentiable from the moved image back to every answer."""

import math

import pytest
import torch
from scripts.network.heads import Found
from scripts.network.quiznet import QuizNet
from scripts.training.both_ways import BothWays
from scripts.training.losses import MatchLoss
from scripts.training.resetter import RigidResetter
from scripts.training.stage_two import ClipGradients, PrepareTargets, ResetLoss, Targets

OFF = torch.tensor([2.0, -1.0, 3.0])  # voxels; the moving scan's voxel of a fixed voxel is this much further
SIZE = (26, 24, 28)


def textured(shape=(40, 40, 40)) -> torch.Tensor:
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.avg_pool3d(noise, 5, stride=1, padding=2)[0, 0]


def targets(spacing: tuple[float, float] = (4.0, 4.0), count: int = 30) -> Targets:
    """A fixed volume of 26 x 24 x 28 voxels and the same patient cut elsewhere, behind padding; two directions."""
    scan = textured()
    fixed = scan[6:32, 6:30, 6:34]
    moving = scan[4:30, 7:31, 3:31]  # a voxel of the scan has an index that is OFF larger here
    image = torch.zeros(1, 2, 30, 30, 30)
    image[0, 0, : SIZE[0], : SIZE[1], : SIZE[2]], image[0, 1, : SIZE[0], : SIZE[1], : SIZE[2]] = fixed, moving
    asked = 5 + 14 * torch.rand(count, 3, generator=torch.Generator().manual_seed(4))
    label = torch.zeros(1, 2, count, 13)
    label[..., 3] = 1
    label[0, 0, :, 4:7], label[0, 0, :, :3] = asked, asked + OFF
    label[0, 1, :, 4:7], label[0, 1, :, :3] = asked + OFF, asked
    label[0, :, :, 7:13] = spacing[0]
    return Targets(label, image, torch.tensor([[SIZE, SIZE]]))


def answers(given: Targets, wrong: torch.Tensor) -> list[Found]:
    """The true answers, off by ``wrong`` voxels in the first direction and its negative in the second."""
    found = []
    for way, sign in ((0, 1.0), (1, -1.0)):
        points = given.label[:, way, :, :3] + sign * wrong
        belief = torch.full(points.shape[:2], 4.0)
        found.append(Found(points, torch.ones_like(belief), belief, torch.zeros(1, points.shape[1], 0), torch.zeros(0, 3)))
    return found


def loss(mode: str = "translation", **options) -> ResetLoss:
    return ResetLoss(MatchLoss("squared", attention=0, answer=0, unit=1.0), RigidResetter(mode), **options)


@pytest.mark.parametrize("mode", ["translation", "rigid"])
@pytest.mark.parametrize("pool", [1, 2])
def test_right_answers_bring_the_images_together(mode, pool):
    """The moved image is the fixed one where both have a field: NCC 1 (with whole pooled cells, where OFF is a multiple)."""
    given = targets()
    value = float(loss(mode, pool=pool).trans(answers(given, torch.zeros(3))[0], given, 0))
    assert value < (-0.97 if pool == 1 else -0.85)
    off = float(loss(mode, pool=pool).trans(answers(given, torch.tensor([4.0, 4.0, 4.0]))[0], given, 0))
    assert off > -0.4


def test_the_loss_adds_up():
    """L_pair of a shift of (1, 2, 2) voxels is 9; L_trans counts a hundredth."""
    given = targets()
    wrong = answers(given, torch.tensor([1.0, 2.0, 2.0]))
    whole = loss(weight=0.01)
    trans = (whole.trans(wrong[0], given, 0) + whole.trans(wrong[1], given, 1)) / 2
    assert float(whole(wrong, given)) == pytest.approx(9 + 0.01 * float(trans), abs=1e-5)
    assert float(loss(weight=0.0)(wrong, given)) == pytest.approx(9, abs=1e-5)


@pytest.mark.parametrize("mode", ["translation", "rigid"])
def test_the_images_alone_pull_the_answers_right(mode):
    """Gradient descent on L_trans alone takes a shift of 1.6 voxels out of the answers."""
    given, stage = targets(), loss(mode, pool=1)
    shift = torch.tensor([1.0, -1.0, 0.8], requires_grad=True)
    descent = torch.optim.Adam([shift], 0.2)
    for step in range(20):
        descent.zero_grad()
        stage.trans(answers(given, shift)[step % 2], given, step % 2).backward()
        descent.step()
    assert float(shift.detach().norm()) < 0.4


def test_millimetres_not_voxels():
    """Doubling both voxel sizes changes nothing; the padding behind the volumes is not looked at."""
    given, wide = targets(), targets(spacing=(8.0, 8.0))
    wrong = torch.tensor([0.6, 0.3, -0.5])
    value = float(loss().trans(answers(given, wrong)[0], given, 0))
    assert float(loss().trans(answers(wide, wrong)[0], wide, 0)) == pytest.approx(value, abs=1e-6)
    given.image[:, :, SIZE[0] :] = 5.0
    assert float(loss().trans(answers(given, wrong)[0], given, 0)) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 7, 6), (1, 7, 6), (8, 1, 2)])
def test_pooled_voxels_lie_where_their_affine_says(pool, size):
    """The value is the place in mm (x + 100 y + 10,000 z): a cube's mean is that of its middle; voxels of 2 x 3 x 5 mm."""
    steps = torch.tensor([2.0, 3.0, 5.0])
    i, j, k = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    image = torch.full((1, 2, 9, 9, 9), 77.0)  # padding
    image[0, 1, : size[0], : size[1], : size[2]] = i * 2.0 + 100 * j * 3.0 + 10_000 * k * 5.0
    given = Targets(torch.zeros(1, 2, 1, 13), image, torch.tensor([[[9, 9, 9], size]]))
    pooled, affine = loss(pool=pool)._pooled(given, 0, 1, steps)
    edges = [min(pool, n) for n in size]
    assert list(pooled.shape[2:]) == [n // e for n, e in zip(size, edges, strict=True)]
    assert affine.diagonal().tolist() == [*(e * s for e, s in zip(edges, (2.0, 3.0, 5.0), strict=True)), 1.0]
    cells = torch.cartesian_prod(*(torch.arange(n) for n in pooled.shape[2:])).float()
    x, y, z = (cells * affine.diagonal()[:3] + affine[:3, 3]).T
    torch.testing.assert_close(pooled.flatten(), x + 100 * y + 10_000 * z, rtol=1e-6, atol=1e-3)


def test_volumes_of_different_voxels_meet():
    """The moving scan at half the voxel size, pooled alike: half a voxel is 2 mm in the one and 1 mm in the other."""
    given = targets()
    fine = torch.nn.functional.interpolate(given.image[:, 1:, :26, :24, :28], scale_factor=2, mode="nearest")
    image = torch.zeros(1, 2, 52, 48, 56)
    image[:, :1, :26, :24, :28], image[:, 1:] = given.image[:, :1, :26, :24, :28], fine
    label = given.label.clone()
    label[:, 0, :, :3] = label[:, 0, :, :3] * 2 + 0.5  # the middle of a voxel, in voxels of half its size
    label[:, 0, :, 7:10] = 2.0
    made = Targets(label, image, torch.tensor([[SIZE, (52, 48, 56)]]))
    assert float(loss(pool=1).trans(answers(made, torch.zeros(3))[0], made, 0)) < -0.97
    shifted = answers(made, torch.full((3,), 1.0))[0]  # 2 mm: half a voxel of the fixed scan
    assert float(loss(pool=1).trans(shifted, made, 0)) > -0.95


def test_an_answer_the_network_does_not_believe_has_no_say():
    given = targets()
    right = answers(given, torch.zeros(3))[0]
    spoilt = right.points.clone()
    spoilt[0, :10] += 20
    belief = right.answer.clone()
    belief[0, :10] = -30
    value = float(loss().trans(right, given, 0))
    assert float(loss().trans(right._replace(points=spoilt, answer=belief), given, 0)) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("head", ["pointer", "regression"])
def test_l_trans_reaches_the_network(head):
    """From the moved image through resetter, head and quizzer to the first convolution."""
    torch.manual_seed(0)
    given = targets()
    net = QuizNet({"token_layers": 1, "query_layers": 1}, head)
    voxels = given.label[..., 4:7]
    found = BothWays(net)(given.image, voxels, given.sizes)
    # Near the truth, so that the images overlap, with the network's own dependence.
    near = [f._replace(points=given.label[:, w, :, :3] + 0.5 + 0.05 * f.points) for w, f in enumerate(found)]
    stage = ResetLoss(MatchLoss(), RigidResetter("rigid", robust_steps=1))
    (stage.trans(near[0], given, 0) + stage.trans(near[1], given, 1)).backward()
    for part in (net.encoder.stem[0].weight, net.quizzer.side, net.head.belief[0].weight):
        assert part.grad.isfinite().all()
        assert part.grad.abs().max() > 0


def test_preparing_hands_the_images_on():
    batch = {name: torch.rand(1, 2) for name in ("image", "label", "queries", "sizes")}
    image, given, extra, options = PrepareTargets()(batch, torch.device("cpu"))
    assert torch.equal(image, batch["image"]) and torch.equal(given.image, batch["image"])
    assert torch.equal(given.label, batch["label"]) and torch.equal(given.sizes, batch["sizes"])
    assert [torch.equal(a, batch[name]) for a, name in zip(extra, ("queries", "sizes"), strict=True)] == [True, True]
    assert options == {}


def test_gradients_are_clipped_to_their_norm():
    linear = torch.nn.Linear(3, 1)
    for parameter in linear.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)
    ClipGradients(linear, norm=1.0)(None)
    total = math.sqrt(sum(float(p.grad.square().sum()) for p in linear.parameters()))
    assert total == pytest.approx(1.0, rel=1e-4)
