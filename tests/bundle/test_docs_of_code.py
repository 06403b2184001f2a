"""Numbers and names that the documents repeat from the code: the recipe of the weights, the network, the packages."""

import json
import re

import torch
from documents import BUNDLE, CARD, CONVENTIONS, README, ROOT, TRAINING, blocks, flat, text_of
from scripts.core.geometry import ijk_to_grid
from scripts.registration.register import load_network
from scripts.registration.settings import SearchSettings
from test_layout import PACKAGES


def test_the_card_tells_the_recipe_of_the_weights():
    recipe = json.loads(text_of(BUNDLE / "configs" / "weights.json"))
    iterations = recipe["max_epochs"] * recipe["epoch_length"]
    said = flat(CARD)
    assert f"{iterations:,} ({recipe['max_epochs']} epochs of {recipe['epoch_length']})" in said
    assert f"{recipe['queries_per_pair']} queries in each direction" in said
    assert f"{recipe['phantoms']} phantoms" in said
    assert recipe["batch_size"] == 1 and "one pair each" in said
    assert recipe["learning_rate"] == 7e-4 and "the same with 7e-4" in said
    assert recipe["warmup_iterations"] == 100 and "100 iterations of warm-up" in said
    assert recipe["weight_decay"] == 1e-4 and "weight decay 1e-4" in said and recipe["amp"] is True


def test_the_card_tells_the_numbers_of_network_and_search():
    parameters = sum(p.numel() for p in load_network().parameters())
    assert f"{parameters / 1e6:.2f} million parameters" in flat(CARD)
    s, said = SearchSettings(), flat(CARD)
    assert f"{s.coarse_spacing:.0f} mm for a first pass" in said and f"{s.spacing:.0f} mm for a second one" in said
    assert f"Up to {s.match.queries:,} points" in said and f"within {s.match.cycle_limit:.0f} voxels" in said
    assert f"up to {s.candidates.most} different rigid maps" in said
    assert f"{s.match.margin:.0f} mm beyond" in said and f"tiles of {s.match.tile:.0f} mm" in said
    assert f"({s.match.zoom_queries:,} in the second pass)" in said
    config = json.loads(text_of(BUNDLE / "configs" / "inference.json"))
    assert (config["spacing_mm"], config["coarse_spacing_mm"]) == (s.spacing, s.coarse_spacing)
    assert config["queries_per_pass"] == s.match.queries and config["hu_window"] == [-600, 600]


def test_defaults_of_training_are_the_papers():
    config = json.loads(text_of(BUNDLE / "configs" / "train.json"))
    assert (config["learning_rate"], config["batch_size"]) == (1e-4, 2)
    assert config["max_epochs"] * config["epoch_length"] == 2000
    assert "(learning rate 1e-4, batches of 2, 2,000 iterations)" in flat(TRAINING)


def test_the_tree_of_packages_is_the_codes():
    """Every folder below scripts is drawn, each under its parent, and the packages in the order in which they import."""
    (tree,) = [block for block in blocks(CONVENTIONS, "") if block.startswith("scripts/")]
    drawn, package = [], ""
    for line in tree.splitlines()[1:]:
        names = re.findall(r"([a-z]+)/(?=[ ,]|$)", line)
        if not line.startswith("    "):
            package, names = names[0], names[:1]
            drawn.append(package)
        else:
            drawn += [f"{package}/{name}" for name in names]
    there = {str(path.parent.relative_to(BUNDLE / "scripts")) for path in (BUNDLE / "scripts").glob("*/**/__init__.py")}
    assert {name for name in there if name.count("/") < 2} == set(drawn)
    assert [name for name in drawn if "/" not in name] == list(PACKAGES)


def test_half_voxels_are_the_codes():
    assert ijk_to_grid(torch.arange(4.0)[:, None], [4]).flatten().tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert "-0.75, -0.25, 0.25 and 0.75" in flat(CONVENTIONS)


def test_authors_are_those_of_the_citation():
    citation = text_of(ROOT / "CITATION.cff")
    given, family = (re.findall(rf"{kind}-names: (.+)", citation) for kind in ("given", "family"))
    assert given and ", ".join(map(" ".join, zip(given, family, strict=True))) in flat(README).replace(" > ", " ")
