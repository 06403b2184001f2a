"""What runs on a CUDA device, against the same on the CPU: `make test-cuda`, where there is one."""

import copy

import pytest
import tiny
import torch
from oracle import TRUTH, pair, quick, worst_mm
from scripts.checks.one_look import look_once, prepare
from scripts.core.geometry import ijk_to_mm, inside, lattice_ijk
from scripts.core.rigid import RigidTransform
from scripts.images.landmarks import PairedLandmarks
from scripts.images.masks import INSIDE
from scripts.images.volumes import make_volume, standardise
from scripts.network.quiznet import QuizNet
from scripts.registration.matcher import Matcher
from scripts.registration.register import load_network, register
from scripts.synthetic.phantom import PelvisPhantom
from scripts.training.both_ways import BothWays
from scripts.training.losses import MatchLoss
from scripts.training.resetter import RigidResetter
from scripts.training.stage_two import ResetLoss, Targets

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def full_precision():
    """No TF32: what is compared are two ways to compute the same, not two precisions."""
    kinds = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [kind.allow_tf32 for kind in kinds]
    for kind in kinds:
        kind.allow_tf32 = False
    yield
    for kind, value in zip(kinds, before, strict=True):
        kind.allow_tf32 = value


@pytest.fixture(scope="module")
def shipped():
    return load_network(), load_network(device="cuda")


@pytest.fixture(scope="module")
def scans():
    """A phantom's BT field, and the same voxels elsewhere in the world and turned."""
    fixed = PelvisPhantom(7).session("bt", spacing=(4.0, 4.0, 4.0)).volume
    truth = RigidTransform.about([4.0, -6.0, 9.0], [12.0, -7.0, 20.0], ijk_to_mm(torch.zeros(1, 3), fixed.affine)[0])
    return fixed, make_volume(fixed.as_tensor().clone(), truth.matrix @ fixed.affine, fixed.meta), truth


def small_network(head: str = "pointer") -> QuizNet:
    torch.manual_seed(0)
    return QuizNet(head=head)


def batch(size: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two pairs of noise with queries and labels: image, queries, sizes, label."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 2, size, size, size - 4, generator=generator)
    queries = 4 + (size - 12) * torch.rand(2, 2, 30, 3, generator=generator)
    label = torch.zeros(2, 2, 30, 13)
    label[..., :3], label[..., 3], label[..., 4:7], label[..., 7:] = queries + 2, 1, queries, 3.0
    return image, queries, torch.tensor([[[size, size, size - 4]] * 2] * 2), label


@pytest.mark.parametrize("head", ["pointer", "regression"])
def test_network(head):
    """Forward of both heads: grid points, spread and probability agree with the CPU's to 1e-3 of their unit."""
    network = small_network(head).eval()
    image, queries = batch()[0], torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(2)) * 1.6 - 0.8
    with torch.no_grad():
        expected = network(image, queries)
        found = copy.deepcopy(network).cuda()(image.cuda(), queries.cuda())
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_matcher(shipped, scans):
    """Answers of the shipped weights in mm, both ways: to a tenth of a voxel but where two peaks are level."""
    volumes = [standardise(volume, 6.0) for volume in scans[:2]]
    ways = [Matcher(network, *volumes) for network in shipped]
    points = ijk_to_mm(lattice_ijk((6, 6, 6)) * 6 + 8, volumes[0].affine)
    points = points[inside(points, volumes[0].affine, volumes[0].shape[1:])]
    expected, found = (way.one_way(points) for way in ways)
    assert found.moving_mm.device.type == "cpu"
    apart = (found.moving_mm - expected.moving_mm).norm(dim=-1)
    assert apart.quantile(0.95) < 0.6
    torch.testing.assert_close(found.confidence.quantile(0.5), expected.confidence.quantile(0.5), rtol=0.01, atol=0.01)


def test_matcher_in_bfloat16(shipped, scans):
    """bfloat16 moves the median answer by less than a voxel (6 mm)."""
    volumes = [standardise(volume, 6.0) for volume in scans[:2]]
    points = ijk_to_mm(lattice_ijk((5, 5, 5)) * 6 + 10, volumes[0].affine)
    points = points[inside(points, volumes[0].affine, volumes[0].shape[1:])]
    full, half = (Matcher(shipped[1], *volumes, amp=amp).look_up(points) for amp in (False, True))
    assert (full.points_mm - half.points_mm).norm(dim=-1).median() < 6.0


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("stage", ["first", "second"])
def test_training_step(amp, stage):
    """One step of either stage: the loss is the CPU's (0.1 %; 3 % in bfloat16), gradients are finite, weights move."""
    image, queries, sizes, label = batch()
    first = MatchLoss("squared", attention=0.0, answer=0.01)
    loss = first if stage == "first" else ResetLoss(first, RigidResetter("translation"), window=5)
    losses = {}
    for device in ("cpu", "cuda"):
        network = small_network("regression").to(device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        found = BothWays(network, amp=amp)(image.to(device), queries.to(device), sizes.to(device))
        target = label.to(device)
        value = loss(found, target if stage == "first" else Targets(target, image.to(device), sizes.to(device)))
        value.backward()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
        before = network.lateral.weight.detach().clone()
        optimizer.step()
        assert not torch.equal(network.lateral.weight, before)
        losses[device] = float(value.detach())
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.03 if amp else 1e-3)


@pytest.mark.parametrize("overlays", [(), ("train_resetter",)], ids=["stage one", "stage two"])
@pytest.mark.parametrize("amp", [False, True])
def test_training_config(overlays, amp, tmp_path):
    """``train.json`` from its loader to its validation, fine-tuned on pairs, on the device."""
    options = {"datalist": tiny.datalist(tmp_path), "pretrained": None, "output_dir": str(tmp_path / "run")}
    made = tiny.run("training", *overlays, device="cuda", amp=amp, **options)
    network = made.parser.get_parsed_content("network")
    assert next(network.parameters()).device.type == "cuda"
    state = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state.values())


def test_registration(shipped, scans):
    """A whole registration on the device: the truth to 1 mm, and the CPU's map to 0.2 mm."""
    fixed, moving, truth = scans
    on_cpu, on_cuda = (register(fixed, moving, network=network) for network in shipped)
    assert on_cuda.device.startswith("cuda")
    assert on_cuda.verdict.accepted
    corners = ijk_to_mm(lattice_ijk((2, 2, 2)) * (torch.tensor(fixed.shape[1:]) - 1), fixed.affine)
    assert (on_cuda.fixed_to_moving(corners) - truth(corners)).norm(dim=-1).max() < 1.0
    assert (on_cuda.fixed_to_moving(corners) - on_cpu.fixed_to_moving(corners)).norm(dim=-1).max() < 0.2


@pytest.mark.parametrize("inference", [False, True])
def test_volumes_on_the_device(shipped, scans, inference):
    """Volumes, region, labels and a network that all lie on the device, in inference mode too: as from the CPU."""
    fixed, moving, _ = scans
    usual = register(fixed, moving, network=shipped[1], fixed_region=make_region(fixed), landmarks=marks(fixed, scans[2]))
    with torch.inference_mode(inference):
        found = register(
            fixed.cuda(),
            moving.cuda(),
            network=shipped[1],
            fixed_region=make_region(fixed).cuda(),
            moving_labels=make_region(moving).cuda(),
            landmarks=marks(fixed, scans[2]),
        )
    assert found.fixed.device.type == found.moving_labels.device.type == "cpu"
    torch.testing.assert_close(found.fixed_to_moving.matrix, usual.fixed_to_moving.matrix, rtol=0, atol=1e-3)
    assert found.landmarks["tre_mean_mm"] < 1.0


def make_region(volume):
    """The inner half of a volume along each axis as a mask on it."""
    mask = torch.zeros(volume.shape)
    i, j, k = (slice(n // 4, n - n // 4) for n in volume.shape[1:])
    mask[:, i, j, k] = 1.0 + INSIDE
    return make_volume(mask, volume.affine)


def marks(fixed, truth):
    points = ijk_to_mm(torch.tensor([[20.0, 20, 8], [30, 25, 10], [25, 30, 12], [35, 22, 9]]), fixed.affine)
    return PairedLandmarks(list("abcd"), points, truth(points))


def test_the_paper_s_single_look():
    """``one_look`` with a network on the device, at the paper's 128^3."""
    network = small_network("regression").eval()
    prepared = prepare(*pair(), (128, 128, 128), quick())
    expected, found = (look_once(net, prepared) for net in (network, copy.deepcopy(network).cuda()))
    assert len(found.matches) == 300
    assert (found.matches.moving_mm - expected.matches.moving_mm).norm(dim=-1).max() < 0.5


def test_an_untrained_network_finds_no_map_or_says_so():
    """A network that knows nothing, on the device: the verdict is a verdict, whatever the map."""
    found = register(*pair(), network=small_network().cuda().eval(), options=quick())
    assert found.verdict.accepted is False or worst_mm(found.fixed_to_moving, TRUTH) < 10
