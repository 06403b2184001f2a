"""The differentiable rigid resetter: answers -> map in mm -> search image on the reference grid."""

import pytest
import SimpleITK as sitk
import torch
from scripts.core.geometry import apply_affine, grid_affine, grid_to_mm, ijk_to_mm, inside, lattice_ijk, mm_to_grid
from scripts.core.geometry import matrix_ras_to_lps as to_lps
from scripts.core.rigid import RigidTransform, fit_rigid
from scripts.registration.similarity import windowed_ncc
from scripts.training.resetter import RigidResetter, covered, fit_rigid_smooth, reset

MOTION = RigidTransform.about([4.0, -7.0, 12.0], [30.0, -18.0, 55.0], [10.0, -20.0, 400.0])
CUBE = 40 * (lattice_ijk((3, 3, 3)) - 1)[None]  # equally wide along all axes: equal singular values


def points(batch=2, number=12, seed=0):
    torch.manual_seed(seed)
    queries = 80 * torch.randn(batch, number, 3, dtype=torch.float64) + torch.tensor([10.0, -20.0, 400.0])
    return queries, MOTION(queries)


def oblique(spacing, origin, turn=(10.0, 20.0, -30.0)):
    affine = RigidTransform.about(turn, origin, [0.0, 0.0, 0.0]).matrix.clone()
    affine[:3, :3] = affine[:3, :3] @ torch.diag(torch.tensor(spacing, dtype=torch.float64))
    return affine


def test_translation_is_the_weighted_mean_displacement():
    queries = torch.tensor([[[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [0.0, 50.0, 0.0]]])
    answers = queries + torch.tensor([[[1.0, 0.0, 0.0], [2.0, 6.0, 0.0], [6.0, 0.0, -9.0]]])
    mean = RigidResetter("translation")(queries, answers)
    assert torch.allclose(mean[0, :3, 3], torch.tensor([3.0, 2.0, -3.0]).double())
    assert torch.equal(mean[0, :3, :3], torch.eye(3).double())
    weighted = RigidResetter("translation")(queries, answers, torch.tensor([[1.0, 1.0, 0.0]]))
    assert torch.allclose(weighted[0, :3, 3], torch.tensor([1.5, 3.0, 0.0]).double())


def test_displacements_are_averaged_in_mm_and_not_in_units_of_the_volumes():
    fixed = ((40, 60, 80), oblique((2.0, 2.5, 3.0), (-30.0, 15.0, 380.0)))
    moving = ((50, 20, 30), oblique((1.0, 4.0, 2.0), (5.0, 80.0, -200.0), turn=(0.0, 0.0, 0.0)))
    shift = torch.tensor([40.0, -25.0, 310.0], dtype=torch.float64)
    queries_grid = torch.rand(1, 9, 3, dtype=torch.float64) * 2 - 1
    queries_mm = grid_to_mm(queries_grid, fixed[1], fixed[0])
    answers_grid = mm_to_grid(queries_mm + shift, moving[1], moving[0])
    matrix = RigidResetter("translation")(queries_mm, grid_to_mm(answers_grid, moving[1], moving[0]))
    assert torch.allclose(matrix[0, :3, 3], shift, atol=1e-9)
    in_grid_units = (answers_grid - queries_grid).std(1)
    assert (in_grid_units > 0.1).all()  # one shift, many displacements: why the average is taken in mm


@pytest.mark.parametrize("steps", [0, 4])
def test_rigid_recovers_an_exact_motion(steps):
    queries, answers = points()
    matrices = RigidResetter("rigid", robust_steps=steps)(queries.float(), answers.float())
    assert matrices.dtype == torch.float64
    error = (apply_affine(matrices, queries) - answers).norm(dim=-1)
    assert float(error.max()) < 1e-3  # what single-precision points allow
    matrices = RigidResetter("rigid", robust_steps=steps)(queries, answers)
    assert float((matrices - MOTION.matrix).abs().max()) < 1e-9


def test_rigid_is_the_closed_form_fit():
    queries, answers = points()
    answers = answers + 5 * torch.randn_like(answers)
    weights = torch.rand(2, 12, dtype=torch.float64)
    expected = fit_rigid(queries, answers, weights)
    assert torch.allclose(RigidResetter()(queries, answers, weights), expected, atol=1e-9)


def test_robust_steps_survive_thirty_per_cent_of_wrong_answers():
    queries, answers = points(batch=1, number=100)
    answers[:, :30] += 60 * torch.randn(1, 30, 3, dtype=torch.float64) + torch.tensor([80.0, 40.0, 0.0])
    plain, robust = (RigidResetter("rigid", robust_steps=steps)(queries, answers) for steps in (0, 6))
    errors = [(apply_affine(m, queries) - MOTION(queries)).norm(dim=-1).mean() for m in (plain, robust)]
    assert float(errors[0]) > 15
    assert float(errors[1]) < 0.5


def test_one_of_a_batch_is_the_one_alone_and_the_order_of_queries_does_not_matter():
    queries, answers = points()
    answers[:, 0] += 40.0
    resetter = RigidResetter("rigid", robust_steps=3)
    both = resetter(queries, answers)
    assert torch.allclose(both[1:], resetter(queries[1:], answers[1:]), atol=1e-9)
    order = torch.randperm(12)
    assert torch.allclose(both, resetter(queries[:, order], answers[:, order]), atol=1e-9)


@pytest.mark.parametrize(
    "resetter",
    [RigidResetter("translation"), RigidResetter("translation", 2), RigidResetter(), RigidResetter("rigid", 2)],
)
def test_gradient_of_the_map(resetter):
    queries, answers = points(batch=2, number=6)
    answers = answers + 8 * torch.randn_like(answers)
    weights = 0.5 + torch.rand(2, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(resetter, tuple(x.requires_grad_() for x in (queries, answers, weights)))


def test_gradient_at_the_identity_of_a_regular_grid_where_that_of_the_decomposition_fails():
    answers = CUBE.clone().requires_grad_()
    ours, through_svd = (
        torch.autograd.grad(fit(CUBE, answers)[:, :3, :3].square().cumsum(-1).sum(), answers)[0]
        for fit in (RigidResetter(), fit_rigid)
    )
    assert not torch.allclose(through_svd, ours)  # NaN, or rounding errors divided by nearly nothing
    assert torch.autograd.gradcheck(RigidResetter(), (CUBE, answers))
    assert torch.allclose(RigidResetter()(CUBE, answers), torch.eye(4, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(
    "case",
    ["one place", "line", "nearly a line", "mirrored", "mirrored cube", "no weight", "two points", "two weights"],
)
@pytest.mark.parametrize("steps", [0, 3])
def test_degenerate_answers_give_a_rotation_and_finite_gradients(case, steps):
    queries, answers = points(batch=2, number=2 if case == "two points" else 12)
    weights = torch.ones(queries.shape[:2], dtype=torch.float64)
    if case == "one place":
        answers[0] = answers[0, :1]
    elif case.endswith("line"):
        answers[0] = answers[0, :1] * torch.arange(1, 13)[:, None]
        answers[0] += 1e-3 * torch.randn(12, 3) if case.startswith("nearly") else 0
    elif case == "mirrored":
        answers = queries * torch.tensor([-1.0, 1.0, 1.0])
    elif case == "mirrored cube":
        queries, answers, weights = CUBE, CUBE * torch.tensor([-1.0, 1.0, 1.0]), torch.ones(1, 27)
    elif case == "no weight":
        weights[0] = 0
    elif case == "two weights":
        weights[0, 2:] = 0
    answers, weights = answers.clone().requires_grad_(), weights.requires_grad_()
    matrices = RigidResetter("rigid", robust_steps=steps)(queries, answers, weights)
    rotation = matrices[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand_as(rotation), atol=1e-9)
    assert (torch.linalg.det(rotation.detach()) > 0).all()
    gradients = torch.autograd.grad(matrices.square().cumsum(-1).sum(), (answers, weights))
    assert all(gradient.isfinite().all() for gradient in gradients)
    if case == "one place" and not steps:
        assert torch.allclose(matrices[0, :3, 3], (answers - queries)[0].mean(0))
    if case == "no weight":
        assert torch.equal(matrices[0], torch.eye(4, dtype=torch.float64))


def test_answers_that_are_not_finite_spoil_only_their_own_map():
    queries, answers = points()
    answers[0, 3, 1] = torch.nan
    matrices = RigidResetter("rigid", robust_steps=2)(queries, answers)
    assert matrices[0].isnan().any()
    assert torch.allclose(matrices[1], MOTION.matrix, atol=1e-9)


def test_rigid_smooth_agrees_with_the_slope_of_the_decomposition_where_that_exists():
    queries, answers = points(batch=1)
    answers = (answers + 3 * torch.randn_like(answers)).requires_grad_()
    weights = torch.ones(1, 12, dtype=torch.float64)
    seed = torch.randn(1, 4, 4, dtype=torch.float64)
    ours, theirs = (
        torch.autograd.grad((fit(queries, answers, weights) * seed).sum(), answers)[0]
        for fit in (fit_rigid_smooth, fit_rigid)
    )
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def test_reset_is_what_simpleitk_resamples():
    torch.manual_seed(0)
    search, search_affine = torch.rand(1, 1, 20, 18, 16), oblique((2.0, 3.0, 2.5), (-12.0, 7.0, 90.0))
    shape, affine = (17, 21, 15), oblique((2.5, 2.0, 3.0), (20.0, 30.0, 40.0), turn=(-5.0, 8.0, 170.0))
    centre = grid_to_mm(torch.zeros(1, 3), search_affine, search.shape[2:])[0]
    start = grid_to_mm(torch.zeros(1, 3), affine, shape)[0]
    motion = RigidTransform.about([6.0, -9.0, 170.0], centre - start + 2.0, start)

    def image(data, affine):
        picture = sitk.GetImageFromArray(data.permute(2, 1, 0).contiguous().numpy())
        lps = to_lps(affine) @ torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0])).double()  # ijk -> LPS
        spacing = lps[:3, :3].norm(dim=0)
        picture.SetSpacing(spacing.tolist())
        picture.SetOrigin(lps[:3, 3].tolist())
        picture.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
        return picture

    itk = sitk.AffineTransform(3)
    itk.SetMatrix(to_lps(motion.matrix)[:3, :3].flatten().tolist())
    itk.SetTranslation(to_lps(motion.matrix)[:3, 3].tolist())
    resampled = sitk.Resample(
        image(search[0, 0], search_affine), image(torch.zeros(shape), affine), itk, sitk.sitkLinear, 0.0
    )
    expected = torch.as_tensor(sitk.GetArrayFromImage(resampled)).permute(2, 1, 0)
    got = reset(search, search_affine, shape, affine, motion.matrix)[0, 0]
    within = covered(search.shape[2:], search_affine, shape, affine, motion.matrix)[0, 0]
    assert torch.equal(
        within.flatten(), inside(motion(ijk_to_mm(lattice_ijk(shape), affine)), search_affine, search.shape[2:])
    )
    # ITK repeats the outermost half voxel where torch fades to 0: compare between the outermost voxel centres.
    ijk = apply_affine(torch.linalg.inv(search_affine), motion(ijk_to_mm(lattice_ijk(shape), affine)))
    core = ((ijk >= 0) & (ijk <= torch.tensor(search.shape[2:]) - 1)).all(-1).reshape(shape)
    assert core.sum() > 500
    assert float((got - expected)[core].abs().max()) < 1e-5
    assert float(got[~within].abs().max()) <= 1.0 and float(expected[~within].abs().max()) == 0


def test_reset_batches_maps_and_affines():
    torch.manual_seed(0)
    search = torch.rand(2, 1, 6, 7, 8)
    affines = torch.stack([oblique((2.0, 2.0, 2.0), (0.0, 0.0, 0.0)), oblique((3.0, 2.0, 2.0), (5.0, 0.0, 1.0))])
    matrices = torch.stack([torch.eye(4).double(), RigidTransform.about([0, 0, 9], [1, 2, 3], [5, 5, 5]).matrix])
    both = reset(search, affines, (5, 6, 7), affines, matrices)
    assert both.shape == (2, 1, 5, 6, 7)
    alone = reset(search[1:], affines[1], (5, 6, 7), affines[1], matrices[1])
    assert torch.allclose(both[1:], alone, atol=1e-6)
    assert torch.allclose(both[0], search[0, :, :5, :6, :7], atol=1e-5)  # the identity on the same lattice
    shared = reset(search, affines[0], (5, 6, 7), affines[0], matrices[0])
    assert torch.allclose(shared[0], both[0], atol=1e-6)
    assert covered((6, 7, 8), affines, (5, 6, 7), affines, matrices).shape == (2, 1, 5, 6, 7)


def test_gradient_of_the_reset_image():
    torch.manual_seed(0)
    search = torch.rand(1, 1, 5, 5, 5, dtype=torch.float64, requires_grad=True)
    affine = oblique((3.0, 3.0, 3.0), (1.0, 2.0, 3.0))
    matrix = RigidTransform.about([3.0, 5.0, 7.0], [1.1, 0.7, -0.6], [4.0, 4.0, 4.0]).matrix[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda s, m: reset(s, affine, (4, 4, 4), affine, m), (search, matrix), eps=1e-7)


def toy():
    """A reference of three blobs, and the same three, moved, in a search volume of another shape."""
    centres = torch.tensor([[-14.0, 6.0, 3.0], [10.0, -12.0, 8.0], [6.0, 12.0, -14.0]], dtype=torch.float64)
    motion = RigidTransform.about([0.0, 0.0, 14.0], [9.0, -6.0, 5.0], [0.0, 0.0, 0.0])

    def blobs(shape, affine, at):
        squared = torch.cdist(ijk_to_mm(lattice_ijk(shape), affine), at).square()
        return (-squared / (2 * 9.0**2)).exp().sum(-1).reshape(1, 1, *shape)

    fixed = ((16, 18, 16), grid_affine(4.0, (16, 18, 16), [0.0, 0.0, 0.0]))
    moving = ((20, 16, 18), grid_affine(4.0, (20, 16, 18), [5.0, -5.0, 5.0]))
    queries = 12 * torch.randn(1, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return fixed, moving, blobs(*fixed, centres), blobs(*moving, motion(centres)), queries, motion


@pytest.mark.parametrize("mode", ["translation", "rigid"])
@pytest.mark.parametrize("pair_weight", [1.0, 0.0])
def test_gradient_descent_on_the_papers_loss_goes_down_end_to_end(mode, pair_weight):
    (shape, affine), (search_shape, search_affine), reference, search, queries, motion = toy()
    resetter = RigidResetter(mode)
    displacement = torch.zeros_like(queries, requires_grad=True)
    descent = torch.optim.SGD([displacement], lr=4000.0 if pair_weight else 50000.0)
    target_grid = mm_to_grid(motion(queries), search_affine, search_shape)
    losses, similarities = [], []
    for _ in range(40):
        answers = queries + displacement
        matrix = resetter(queries, answers)
        moved = reset(search, search_affine, shape, affine, matrix)
        mask = covered(search_shape, search_affine, shape, affine, matrix)
        similarity = windowed_ncc(moved, reference, mask, window=5).mean()
        distance = (mm_to_grid(answers, search_affine, search_shape) - target_grid).square().sum(-1).mean()  # eq. 2
        loss = pair_weight * distance - 0.01 * similarity  # eq. 1 and 3
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(float(loss.detach()))
        similarities.append(float(similarity.detach()))
    assert all(later < earlier + 1e-6 for earlier, later in zip(losses, losses[1:], strict=False))
    assert losses[-1] < losses[0] - 1e-3 and similarities[-1] > similarities[0] + 0.1


@pytest.mark.parametrize("wrong", [dict(mode="affine"), dict(robust_steps=-1), dict(scale_mm=0.0)])
def test_resetter_refuses(wrong):
    with pytest.raises(ValueError, match="resetter"):
        RigidResetter(**wrong)
