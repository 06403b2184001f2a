"""Validation figures of single answers, on answers made by hand."""

import torch
from scripts.network.heads import Found
from scripts.registration.metrics import PointDistance
from scripts.training.validation import single_answers, wrongly_unanimous
from tiny import RECIPE, volumes, workflow


def output(errors_mm: list[float], parts: list[int], shift_mm: float = 0.0) -> dict:
    """One case, one direction, voxels of 2 mm: queries on a grid whose answers are off by so much along x, and shifted."""
    count = len(errors_mm)
    asked = torch.stack([torch.arange(count) % 5, torch.arange(count) // 5 % 5, torch.arange(count) // 25], 1) * 10.0
    label = torch.zeros(1, 1, count, 14)
    label[0, 0, :, :3], label[0, 0, :, 3], label[0, 0, :, 4:7] = asked, 1, asked
    label[0, 0, :, 7:13] = 2.0
    label[0, 0, :, 13] = torch.tensor(parts)
    points = asked.clone()
    points[:, 0] += (torch.tensor(errors_mm) + shift_mm) / 2
    nothing = torch.zeros(1, count)
    return {"label": label, "pred": (Found(points[None], nothing, nothing, torch.zeros(1, count, 0), torch.zeros(0, 3)),)}


def mean(rows) -> float:
    metric = PointDistance()
    for predicted, target in zip(*rows, strict=True):
        metric(predicted[None], target[None])
    return float(metric.aggregate())


def test_medians_of_each_part():
    errors = [2.0] * 20 + [8.0] * 12 + [30.0] * 5
    parts = [0] * 20 + [1] * 12 + [2] * 5  # five answers make no part
    assert mean(single_answers(output(errors, parts))) == 5.0
    assert mean(single_answers(output(errors, parts), "worst")) == 8.0
    assert mean(single_answers(output(errors, parts), "all")) == 2.0


def test_unanimous_and_wrong():
    parts = [0] * 50
    assert mean(wrongly_unanimous(output([0.0] * 50, parts))) == 0.0  # agree, right
    assert mean(wrongly_unanimous(output([0.0] * 50, parts, shift_mm=20.0))) == 1.0  # agree, all 20 mm off
    scattered = [float(200 * ((7 * n) % 11)) for n in range(50)]
    assert mean(wrongly_unanimous(output(scattered, parts))) == 0.0  # wrong, but they don't agree
    assert mean(wrongly_unanimous(output([0.0] * 42 + [200.0] * 8, parts))) == 0.0  # agree, 16 % wrong


def test_no_answers_count_for_nothing():
    empty = output([0.0] * 20, [0] * 20)
    empty["label"][..., 3] = 0
    assert torch.tensor(mean(single_answers(empty))).isnan()


def test_a_training_on_bodies_that_bend(tmp_path):
    """configs/parts.json: pairs bend in training and validation, and the answers themselves are measured."""
    bent = {**RECIPE, "bend": 1.0}
    made = workflow(
        "training",
        "parts",
        volumes=volumes(tmp_path / "ct"),
        output_dir=str(tmp_path / "out"),
        coarse_recipe=bent,
        fine_recipe=bent,
        straight_recipe=RECIPE,
        bent_recipe=bent,
        pretrained=None,
    )
    assert made.parser["bend_chance"] == 0.6
    batch = next(iter(made.parser.get_parsed_content("train#dataloader")))
    assert batch["label"].shape[-1] == 14
    assert set(batch["label"][..., 13].unique().tolist()) <= {-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    made.run()
    figures = made.parser.get_parsed_content("validate#evaluator").state.metrics
    assert next(iter(figures)) == "validation_part_answers_mm"
    assert {"validation_worst_part_answers_mm", "validation_wrongly_unanimous", "validation_tre_mm"} < set(figures)
    assert 0 <= figures["validation_wrongly_unanimous"] <= 1
    assert 0 < figures["validation_part_answers_mm"] <= figures["validation_worst_part_answers_mm"] + 1e-9
