"""From items to batches: queries, labels, padding."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scripts.core.geometry import centre_mm, grid_affine, ijk_to_mm, inside, mm_to_ijk, spacing_of
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import resample
from scripts.network.padding import pad_together
from scripts.synthetic.synthesis import Source
from scripts.training.pairs import DrawPaird, ForRealPairs, LoadSourced, PackQueriesd, collate_pairs
from tiny import RECIPE, SPACING, datalist, hu, save, workflow

SHIFT = torch.tensor([12.0, -7.0, 3.0], dtype=torch.float64)


def pair(count: int = 300) -> dict:
    """Two volumes of different size and spacing; moving points are the fixed ones plus SHIFT."""
    fixed = MetaTensor(torch.rand(1, 30, 24, 20), affine=grid_affine(4.0, (30, 24, 20), [0, 0, 0]))
    slim = torch.diag(torch.tensor([3.0, 4.0, 6.0, 1.0], dtype=torch.float64))
    slim[:3, 3] = torch.tensor([-30.0, -40.0, -35.0])
    moving = MetaTensor(torch.rand(1, 20, 16, 12), affine=slim)
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 100 - 50
    return {"fixed": fixed, "moving": moving, "fixed_points": points, "moving_points": points + SHIFT}


def pack(queries: int = 40, seed: int = 0, **changes) -> dict:
    return PackQueriesd(queries).set_random_state(seed)({**pair(), **changes})


def first_is_fixed(packed: dict) -> bool:
    return packed["sizes"].tolist() == [[30, 24, 20], [20, 16, 12]]


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_the_true_counterparts(seed):
    data, packed = pair(), pack(seed=seed)
    names = ("fixed", "moving") if first_is_fixed(packed) else ("moving", "fixed")
    shift = SHIFT if first_is_fixed(packed) else -SHIFT
    for way in (0, 1):
        asked, searched = (data[names[side]] for side in (way, 1 - way))
        rows = packed["label"][way].double()
        asked_mm = ijk_to_mm(rows[:, 4:7], asked.affine)
        target_mm = ijk_to_mm(rows[:, :3], searched.affine)
        assert (target_mm - asked_mm - (shift if way == 0 else -shift)).abs().max() < 1e-4
        assert torch.equal(packed["queries"][way], packed["label"][way, :, 4:7])
        assert rows[0, 7:10].tolist() == spacing_of(searched.affine).tolist()
        assert rows[0, 10:13].tolist() == spacing_of(asked.affine).tolist()
        size = torch.tensor(searched.shape[1:])
        within = ((rows[:, :3] >= -0.5) & (rows[:, :3] <= size - 0.5)).all(-1)
        assert torch.equal(rows[:, 3] > 0, within)
        assert within.double().mean() >= 0.75  # at most a quarter has no answer


def test_both_orders_occur_and_the_image_follows():
    orders = set()
    for seed in range(8):
        data, packed = pair(), pack(seed=seed)
        order = first_is_fixed(packed)
        orders.add(order)
        channel = 0 if order else 1
        assert packed["image"].shape == (2, 30, 24, 20)
        assert packed["sizes"][channel].tolist() == [30, 24, 20]
    assert orders == {True, False}
    assert data["fixed"].shape == (1, 30, 24, 20)
    always = [PackQueriesd(8, fixed_first=0.0).set_random_state(seed)(data) for seed in range(8)]
    assert not any(first_is_fixed(packed) for packed in always)


def test_few_points_fill_all_queries_and_none_are_silent():
    few = pair(6)
    few["fixed_points"] = few["fixed_points"] * 0.2
    few["moving_points"] = few["fixed_points"] + SHIFT
    packed = PackQueriesd(32).set_random_state(1)(few)
    assert packed["queries"].shape == (2, 32, 3)
    assert packed["label"][..., 3].min() == 1
    assert len(packed["queries"][0].unique(dim=0)) <= 6


def test_a_pair_without_common_field_has_only_silent_queries():
    data = pair()
    data["moving_points"] = data["fixed_points"] + 1e4
    packed = PackQueriesd(16).set_random_state(1)(data)
    assert packed["label"][..., 3].max() == 0
    assert packed["label"].isfinite().all()


def test_padding_keeps_voxel_indices():
    small, large = torch.rand(1, 2, 3, 4), torch.rand(1, 4, 2, 5)
    padded = pad_together([small, large])
    assert [p.shape for p in padded] == [(1, 4, 3, 5)] * 2
    assert torch.equal(padded[0][:, :2, :3, :4], small)
    assert torch.equal(padded[1][:, :4, :2, :5], large)
    assert padded[0].sum() == pytest.approx(float(small.sum()), rel=1e-6)


def test_collate_makes_a_batch_whose_members_are_whole():
    first = pack(queries=8, seed=0)
    other = pair()
    other["fixed"] = MetaTensor(torch.rand(1, 12, 40, 20), affine=grid_affine(4.0, (12, 40, 20), [0, 0, 0]))
    second = PackQueriesd(8).set_random_state(0)(other)
    batch = collate_pairs([first, second])
    assert batch["image"].shape == (2, 2, 30, 40, 20)
    assert batch["queries"].shape == (2, 2, 8, 3)
    assert batch["label"].shape == (2, 2, 8, 14)
    for case, item in enumerate((first, second)):
        i, j, k = item["image"].shape[1:]
        assert torch.equal(batch["image"][case, :, :i, :j, :k], item["image"])
        assert torch.equal(batch["sizes"][case], item["sizes"])


def source() -> dict:
    values = MetaTensor(torch.from_numpy(hu(0))[None], affine=grid_affine(SPACING, (36, 34, 32), [0, 0, 0]))
    return {"source": Source({SPACING: values}, {SPACING: values}), "draw": 3}


def test_frozen_draws_hang_on_their_number_alone():
    frozen = DrawPaird([RECIPE], points=50, frozen=True)
    first, again = frozen(source()), frozen(source())
    other = frozen({**source(), "draw": 4})
    assert torch.equal(first["fixed"].as_tensor(), again["fixed"].as_tensor())
    assert torch.equal(first["moving_points"], again["moving_points"])
    assert not torch.equal(first["moving_points"], other["moving_points"])


def test_recipes_are_drawn_by_their_chances():
    recipes = [{**RECIPE, "fixed_extent": [[extent, extent]] * 3} for extent in (60, 90)]
    draw = DrawPaird(recipes, chances=[3, 1], points=8).set_random_state(0)
    sizes = [draw(source())["fixed"].shape[1] for _ in range(30)]
    assert set(sizes) == {12, 18}
    assert 15 <= sizes.count(12) <= 29


def test_augmentation_is_for_real_pairs():
    """Drawn pairs have had their share of chance; a real pair passes every transform, and one seed seeds them all."""
    blank = ForRealPairs([lambda data: {**data, "seen": True}])
    assert "seen" not in blank(DrawPaird([RECIPE], points=8).set_random_state(0)(source()))
    assert blank(pair())["seen"]
    draw = ForRealPairs([PackQueriesd(8)])
    values = [draw.set_random_state(5)(pair())["queries"] for _ in range(2)]
    assert torch.equal(*values)


def test_loading_a_real_pair(tmp_path):
    """From files: one spacing, the points in mm, each in its own frame."""
    datalist(tmp_path)
    files = {key: str(tmp_path / f"{key}0.nii.gz") for key in ("fixed", "moving")}
    loaded = LoadSourced([2.5, SPACING])({**files, "landmarks": str(tmp_path / "points.csv")})
    assert loaded["fixed"].shape == (1, 36, 34, 32)
    assert loaded["moving"].shape == (1, 26, 26, 26)
    shift = loaded["moving_points"] - loaded["fixed_points"]
    assert shift.tolist() == [[pytest.approx(s, abs=1e-9) for s in (10.0, -5.0, 15.0)]] * 12
    for fixed_mm, moving_mm in zip(loaded["fixed_points"], loaded["moving_points"], strict=True):
        i, j = (mm_to_ijk(p[None], loaded[k].affine)[0] for p, k in ((fixed_mm, "fixed"), (moving_mm, "moving")))
        assert (i - j).tolist() == pytest.approx([5.0] * 3, abs=1e-6)  # the same voxel of the same patient, cut off by five


FINE = 2.5
CLOSE = {**RECIPE, "spacing": FINE, "fixed_extent": [[50, 60]] * 3, "moving_extent": [[40, 45]] * 3, "max_offset": 10.0}


def turned_pair(folder, turn_deg=20.0):
    """A loaded pair of one patient: the moving scan is the fixed one, whose world is turned about z and shifted."""
    datalist(folder)
    truth = RigidTransform.about([0.0, 0.0, turn_deg], [10.0, -5.0, 15.0], [80.0, 80.0, 80.0])
    image = nib.load(folder / "fixed0.nii.gz")
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), truth.matrix.numpy() @ image.affine), folder / "m.nii.gz")
    places = torch.from_numpy(np.random.RandomState(0).uniform(50, 110, (12, 3)))
    table = torch.cat([places, truth(places)], 1).tolist()
    rows = [",".join(map(str, [number, *row])) for number, row in enumerate(table)]
    head = "label,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z"
    (folder / "p.csv").write_text("\n".join([head, *rows]) + "\n")
    item = {"fixed": str(folder / "fixed0.nii.gz"), "moving": str(folder / "m.nii.gz"), "landmarks": str(folder / "p.csv")}
    return LoadSourced([FINE, SPACING])(item), truth


def test_landmark_pairs_are_seen_from_near_too(tmp_path):
    """A quarter of the looks at the fine voxels of the second pass: where both show the same, turned alike."""
    loaded, truth = turned_pair(tmp_path)
    draw = DrawPaird([RECIPE, CLOSE], chances=[0.75, 0.25]).set_random_state(0)
    looks = [draw(loaded) for _ in range(60)]
    near = [look for look in looks if float(spacing_of(look["fixed"].affine)[0]) == pytest.approx(FINE)]
    assert 8 <= len(near) <= 22
    for look in looks:
        assert set(look) == {"fixed", "moving", "fixed_points", "moving_points"}
    whole = next(look for look in looks if float(spacing_of(look["fixed"].affine)[0]) == pytest.approx(SPACING))
    assert torch.equal(whole["fixed"].as_tensor(), loaded["fixed"].as_tensor())
    for look in near:
        fixed, moving = look["fixed"], look["moving"]
        assert all(20 <= n <= 24 for n in fixed.shape[1:]) and all(16 <= n <= 18 for n in moving.shape[1:])
        turn = moving.affine[:3, :3] @ torch.linalg.inv(fixed.affine[:3, :3])
        torch.testing.assert_close(turn, truth.matrix[:3, :3], rtol=0, atol=1e-9)
        apart = truth(centre_mm(fixed.affine, fixed.shape[1:])[None])[0] - centre_mm(moving.affine, moving.shape[1:])
        assert float(apart.norm()) <= 10.0 + 1e-9
        # The same place holds the same anatomy: the fixed one laid on the moving one's voxels.
        laid = resample(fixed, truth.inverse().matrix @ moving.affine, moving.shape[1:], outside=float("nan")).as_tensor()
        shown = laid.isfinite()
        assert shown.double().mean() > 0.5
        assert (laid - moving.as_tensor())[shown].abs().mean() < 25  # of a texture with a deviation of 150 HU
        inner = inside(look["fixed_points"], fixed.affine, fixed.shape[1:])
        inner &= inside(look["moving_points"], moving.affine, moving.shape[1:])
        assert inner.any()
        packed = PackQueriesd(8).set_random_state(0)(look)
        assert packed["label"][..., 7:13].flatten().tolist() == pytest.approx([FINE] * 96)


def test_landmarks_on_a_line_still_give_close_ups(tmp_path):
    loaded, _ = turned_pair(tmp_path, turn_deg=0.0)
    line = {key: loaded[key][:2] for key in ("fixed_points", "moving_points")}
    look = DrawPaird([CLOSE]).set_random_state(1)({**loaded, **line})
    assert torch.equal(look["moving"].affine[:3, :3], look["fixed"].affine[:3, :3])


def test_the_training_config_fine_tunes_at_both_spacings(tmp_path):
    """As the second pass needs it: 3 mm by default, here 2.5; its validation stays at the coarse one."""
    made = workflow("near", datalist=datalist(tmp_path), dataset_dir=str(tmp_path), spacing_mm=FINE, fine_recipe=CLOSE)
    seen = {"train": set(), "validate": set()}
    for section, spacings in seen.items():
        dataset = made.parser.get_parsed_content(f"{section}#dataset")
        for _ in range(20):
            spacings |= {round(float(step), 3) for step in dataset[0]["label"][0, 0, 7:13]}
    assert seen == {"train": {FINE, SPACING}, "validate": {SPACING}}


def test_a_cache_on_disk_is_read_back_without_code(tmp_path):
    """Tensors and plain values only: what ``torch.load`` takes with ``weights_only``, and the same voxels in one place."""
    options = {"datalist": datalist(tmp_path), "dataset_dir": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    options |= {"resize_to": [16, 16, 16], "amp": False}
    for run_id in ("cached_first", "cached_again"):
        made = workflow(run_id, "paper", "study/paper_cohort", output_dir=str(tmp_path / run_id), **options)
        for section in ("train", "validate"):
            dataset = made.parser.get_parsed_content(f"{section}#dataset")
            assert dataset.weights_only
            assert dataset[0]["image"].shape == (2, 16, 16, 16)
    files = sorted((tmp_path / "cache").glob("*.pt"))
    assert len(files) == 2  # a training pair, a validation pair: made once
    kept = torch.load(files[0], weights_only=True)
    assert kept["fixed"].shape == (1, 16, 16, 16)
    assert kept["fixed"].meta["name"].startswith("fixed") and kept["fixed"].applied_operations == []


def test_loading_a_volume(tmp_path):
    loaded = LoadSourced([SPACING])({"volume": save(hu(0), tmp_path / "a.nii.gz"), "draw": 7})
    assert loaded["draw"] == 7
    scan = loaded["source"].scans[SPACING]
    assert scan.shape == (1, 36, 34, 32)
    inner = scan.as_tensor()[0, 18, 17, 10:20]
    assert np.allclose(inner, hu(0)[18, 17, 10:20], atol=1e-2)
