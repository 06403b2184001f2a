"""What the page of results says beside its numbers: the data, the commands, and where all this differs from the paper."""

from __future__ import annotations

RUN = ".venv/bin/python -m monai.bundle run {id} --bundle_root quiz_bundle \\\n    --config_file {config}"
HEAD = """\
How this bundle and the methods it is measured against do on data of known truth: the tables of the paper, the
training of its networks, the benchmark. This page is generated (`run collect`, then `run results`) from the CSV files
in `docs/results`, and a test holds it to them. Every section names its data, its number of pairs, its machine
and its command. Nothing here was measured on patients of a clinic; the paper's own numbers stand beside ours in
columns of their own, for orientation.
"""
DATA = {
    "phantom": """\
Test split of the phantom cohort: 100 procedural patients with one EBRT and 442 BT scans in all, as many as in the
paper, 80 / 10 / 10 patients for training, validation and test; voxels of 1.25 x 1.25 x 5 mm, EBRT 400 x 400 x 72; six
named landmarks a pair (bones, cervix, uterine fundus) that both fields show. World frames of the two scans have
nothing in common. The phantom's anatomy is much plainer than a patient's, and at these landmarks nearly all of its
motion is rigid, as the first lines of the table show: read it as a test of getting the place right, not of following
deformation.""",
    "known_truth": """\
Pairs drawn from one real CT (a patient that no training saw) by the benchmark's regime R4: the second scan is another
pose of the same patient with a smooth deformation, organ motion, a metal applicator, and a small field in a world
frame of its own, at most 80 mm and 10 degrees from aligned centres. Truth is exact everywhere; errors are at six body
points a pair. All pairs are of one patient, so the spread is over poses and deformations, not over anatomies.""",
    "cbct": """\
The same from the same CT with the look of a cone-beam CT (regime R5: cupping, scatter, noise, a cylindrical field).
The public CT/CBCT data of the paper's Table 3 are not redistributed here: [datasets.md](datasets.md) has the command
that prepares a downloaded copy, trains, and prints Table 3 with the floors of its landmarks beside it.""",
    "networks": """\
Trained on the phantom cohort's training patients and validated on its validation split, from starts near the truth;
errors are at the landmarks. [baselines.md](baselines.md) has the details.""",
    "ablation": """\
Trained on the phantom cohort's training patients and measured on its test split, one row a variant: the head, the
losses, how the answers become a map, and whether matches are filtered by their cycle error; TRE in mm over the pairs
that have a map. [training.md](training.md) has the details.""",
    "steps": """\
At half the paper's size (64^3), each training of the same number of iterations of one pair, on the same pairs of phantom
patients and of known truth from real CTs: what each difference between the paper and this bundle's first look gives. A step
keeps all changes above it. TRE in mm on the pairs of the tables: mean (sd), median; pairs within 10 mm. CPU seconds an
iteration: forward, backward and optimizer, without the making of pairs. [training.md](training.md#step-by-step) has
the details.""",
    "benchmark": """\
Pairs of known truth drawn from real CTs that no training saw, by the [regimes](benchmark.md#regimes) of the benchmark;
errors are at some 4000 body points a pair. Best rigid: the least-squares rigid map of the same points; ratio: TRE over
its TRE, pair by pair; turned and off by: against that map, at the middle of the body. All are medians.
R1, R2, R4 and R5, their variants and the hard pairs H are of one CT of abdomen and pelvis (`--volume`), R3 is of a CT of
an anthropomorphic phantom, 600 mm long, with ten pairs of the built-in phantom, 900 mm long, besides; unrelated pairs
take their moving scan from other patients' CTs (`--unrelated`); "real" is a real pair, two breath-holds of one chest,
whose errors are at 51 expert landmarks (`--datalist`). The peers ran on as many pairs as the table says.""",
}
ORDER_SAID = """\
In the paper QUIZ comes first, networks alone come last, and SyN ends beside the translation, with or without a
network after it. **With QUIZ as in the paper that order is denied** on all three data sets: a translation found by
intensities leaves it far behind wherever it finds the place, and so does SyN on both EBRT/BT sets. It is ahead of
nothing but networks that start from aligned centres, clearly on the phantom cohort, hardly or not on the real CT, and
of SyN on the cone-beam look, where SyN goes astray. What this shows is a network after 2,000 iterations of the first
stage, not what the paper's would do with its second stage and its patients. Confirmed on all three: deformable
networks do not find the place by themselves, and after a translation they give little. SyN beside the translation is
denied: on the real CT with applicator it is the nearest of all, as it bends with the tissue, and with the cone-beam
look the worst. **With QUIZ as shipped the first place is confirmed** against the translation and the networks after
it on all three, and against SyN on two. Means over the pairs that both ran on; a lost pair weighs heavily in them.
"""
STEPS_SAID = """\
One training with one seed each, 2-core AMD EPYC shared with other work, bfloat16; 119 pairs to learn from (71 of 16
phantom patients, 48 of 16 real CTs), 14 to validate on, whose best validation chose the weights ("kept at"). 500
iterations are a beginning: the shipped network had over 20,000. So this says what gets off the ground first, not
where each would end.

- **The pointer head does**: 28.7 mm nearer on the phantom cohort (20 of 20 pairs). Before it, in either unit, nothing
  has been learnt: all three steps lie where aligned centres do or further off.
- **Both directions with the cycle filter**: 2.9, 6.5 and 6.1 mm nearer (15, 18 and 17 of 20 pairs).
- **The robust fit** gains 0.8 mm where most answers agree (phantom cohort, 13 of 20) and loses 12 and 28 mm on the
  real CT, where they do not yet: a mean of wrong answers stays near the middle, a robust fit follows the largest
  crowd of them.
- **Common spacing**: against the same fit 2.9, 8.0 and 18.8 mm nearer (14, 12 and 18 of 20), and the best on the
  phantom cohort; against the mean displacement of step 5 it is 3.8 and 9.2 mm further on the real CT.
- **mm instead of units**: under 2 mm either way in networks that have learnt so little, but for the stretch of step
  1, which brings the large field's points towards the middle (phantom cohort, 43.3 against 49.1 mm).
- On the real CT no step beats aligned centres in more than 13 of 20 pairs.
"""
COMMANDS = {
    "tables": RUN.format(id="tables", config="quiz_bundle/configs/study/tables.json"),
    "benchmark": RUN.format(id="benchmark", config="quiz_bundle/configs/benchmark.json")
    + " \\\n    --volume CT.nii.gz  # further: variants.json, hard.json, --unrelated, --datalist, as benchmark.md says",
    "networks": RUN.format(
        id="training", config="\"['quiz_bundle/configs/train.json','quiz_bundle/configs/study/baselines/deformable.json',"
        "'quiz_bundle/configs/study/baselines/voxelmorph.json']\""
    ),
    "ablation": RUN.format(id="ablation", config="quiz_bundle/configs/study/ablation.json"),
    "steps": RUN.format(id="paper_steps", config="quiz_bundle/configs/study/steps.json"),
}  # fmt: skip
DIFFERENCES = """\
- **Data.** The paper's 100 patients are not public. The phantom cohort has their number, split, spacing and number of
  landmarks, not their anatomy; the real CTs have anatomy, but simulated motion. Absolute errors are not comparable
  with the paper's, only the order of the methods is, with care.
- **World frames.** The paper does not say where its methods start. Here the scans' frames have nothing in common:
  methods that need a start get aligned field centres ("aligned centres" in the tables), ANTs its aligned centres of
  mass.
- **Translation only or rigid.** "Rigid" in the paper is a translation, and so is "QUIZ as in the paper" here; QUIZ as
  shipped fits a rotation too, refines by intensities, and says when not to trust it.
- **Network.** QUIZ as in the paper: its network, size (128^3), loss, optimizer, batch of two and 2,000 iterations of the
  first stage on a card, half on phantom pairs and half on real CTs; the second stage, with the image's own term in the
  loss, has 300 of 2,000 iterations and no row ([training.md](training.md#at-its-own-size); at 48^3 both are in the
  ablation below).
  QUIZ as shipped: a pointer head, trained on other CTs ([model card](README.md)).
- **VoxelMorph and TransMorph** are trained with NCC, Dice, smoothness 0.01 and Adam as in the paper, and once
  more with their authors' smoothness of 1, on the same cohort, split and seed, on one small grid round the start, and
  TransMorph narrower than published ([baselines.md](baselines.md)). Their times are of a CPU, the paper's of a GPU.
- **ANTs SyN**: its affine stage, cross-correlation and [150, 100, 50] as in the paper, on voxels of at least 5 mm
  with a window of 2 voxels, the smaller field as what ANTs calls fixed, ten pairs a table: at the scans' own
  resolution, a pair would take the better part of an hour. After QUIZ also without its affine stage, which on the
  cone-beam look leaves a start that was right; on the real CT these rows start from maps of an earlier refinement of
  QUIZ's, on the phantom cohort from today's.
- **Networks trained on pairs after QUIZ**: TransMorph for 300 iterations of 35 pairs, on ten pairs of two tables; its best
  weights are the first validated, which move next to nothing ([baselines.md](baselines.md#trained-on-pairs-after-quiz)).
- **Training data of the networks.** VoxelMorph and TransMorph have seen nothing but the phantom cohort; their rows on
  real CTs say how far that carries. QUIZ as in the paper has seen real CTs too, not the one that the tables are made of.
- **rTRE** is given over the fixed field's diagonal in mm and over the paper's diagonal in voxels, which mixes units.
- **Offset** is not defined in the paper; its ratios fit the mean absolute error per axis, which is what stands here.
- **Misprints** in the paper's Tables 1 and 3 are marked where they are quoted.
- **Seconds**: one thread of a machine that other work ran on as well, for QUIZ as in the paper so much of it that its
  seconds say nothing; CPU seconds are the fairer number.
"""
