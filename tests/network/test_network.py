"""QuizNet: what its shapes promise, that no answer depends on what else is asked, and that every part learns."""

import pytest
import torch
from scripts.network.quiznet import Encoder, QuizNet, as_prediction, token_centres
from scripts.training.both_ways import BothWays
from scripts.training.losses import MatchLoss

HEADS = ("pointer", "regression")
SMALL = {"heads": 4, "token_layers": 1, "query_layers": 2, "hidden": 64, "longest": 128.0}


def network(head: str) -> QuizNet:
    """A small network whose every weight is off zero, so that no part can hide behind its initial value."""
    torch.manual_seed(1)
    net = QuizNet(SMALL, head)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return net.eval()


@pytest.fixture(scope="module", params=HEADS)
def net(request) -> QuizNet:
    return network(request.param)


def image(batch: int = 1, shape: tuple[int, ...] = (16, 24, 32), seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 2, *shape, generator=torch.Generator().manual_seed(seed))


def queries(batch: int = 1, count: int = 9, seed: int = 5) -> torch.Tensor:
    return torch.rand(batch, count, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_strides_and_channels():
    coarse, fine = Encoder()(torch.rand(1, 1, 24, 16, 41))
    assert coarse.shape == (1, 128, 3, 2, 6)
    assert fine.shape == (1, 64, 6, 4, 11)


@torch.no_grad()
def test_tokens_of_both_volumes_are_joined(net):
    """4 x 4 x 4 tokens each at 32^3; the paper's 128^3 gives 4^3 times as many, 8,192 in all."""
    joined = net.join(net.encode(torch.rand(1, 1, 32, 32, 32)), net.encode(torch.rand(1, 1, 32, 32, 32)))
    assert joined.tokens.shape == (1, 2 * 4**3, 128)
    assert joined.positions.shape == (2 * 4**3, 128)
    assert joined.first_fine.shape == (1, 8**3, 128)


def without_norms(module: torch.nn.Module) -> torch.nn.Module:
    for name, child in module.named_children():
        if isinstance(child, (torch.nn.GroupNorm, torch.nn.InstanceNorm3d)):
            setattr(module, name, torch.nn.Identity())
        else:
            without_norms(child)
    return module


def test_no_statistics_are_kept_from_training(net):
    """What a volume is normalised by is its own."""
    assert [name for name, _ in net.named_buffers() if "running" in name] == []
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in net.modules())


def test_tokens_are_centred_where_they_say():
    """The voxels that move a token surround 8 times its index, those of a fine one 4 times its index."""
    torch.manual_seed(0)
    encoder = without_norms(Encoder())  # they let every voxel move every token a little
    volume = torch.rand(1, 1, 33, 33, 33, requires_grad=True)
    places = torch.cartesian_prod(*(torch.arange(33.0),) * 3)
    maps = encoder(volume)
    for layer, stride, index in ((0, 8, (2, 2, 2)), (1, 4, (5, 3, 4))):
        token = maps[layer][(0, slice(None), *index)].square().sum()
        pull = torch.autograd.grad(token, volume, retain_graph=True)[0][0, 0].abs()
        centroid = (places * pull.reshape(-1, 1)).sum(0) / pull.sum()
        assert (centroid - stride * torch.tensor(index)).abs().max() < 0.25 * stride
    assert token_centres([2, 2, 2], 8, torch.device("cpu")).tolist()[1] == [0, 0, 8]


@torch.no_grad()
def test_one_batch_is_its_members(net):
    both, asked = image(2), queries(2)
    together = net(both, asked)
    assert together.shape == (2, 5, 9)
    for case in range(2):
        close(together[case : case + 1], net(both[case : case + 1], asked[case : case + 1]))


@torch.no_grad()
def test_chunked_is_unchunked_and_permuted_is_permuted(net):
    joined = net.join(*(net.encode(image()[:, c : c + 1]) for c in (0, 1)))
    asked = queries(count=10)
    for backward in (False, True):
        answers = net.look_up(joined, asked, backward)
        parts = [net.look_up(joined, part, backward) for part in asked.split(3, 1)]
        order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
        mixed = net.look_up(joined, asked[:, order], backward)
        for name in ("points", "spread", "answer", "log_attention"):
            close(getattr(answers, name), torch.cat([getattr(part, name) for part in parts], 1))
            close(getattr(answers, name)[:, order], getattr(mixed, name))


def test_no_query_sees_another(net):
    asked = queries(count=6).requires_grad_()
    answer = net(image(), asked)[0, :3, 2].sum()
    pull = torch.autograd.grad(answer, asked)[0][0]
    assert pull[2].abs().max() > 0
    assert pull[[0, 1, 3, 4, 5]].abs().max() == 0


@torch.no_grad()
def test_the_tensor_door_is_encode_join_look_up(net):
    pair = image(seed=3)
    joined = net.join(net.encode(pair[:, :1]), net.encode(pair[:, 1:]))
    close(net(pair, queries()), as_prediction(net.look_up(joined, queries()), [16, 24, 32]))
    close(net(pair), net(pair, net.lattice_grid))
    assert net(pair).shape == (1, 5, 64)


@torch.no_grad()
def test_volumes_of_different_size(net):
    """Each is encoded at its own size, and an answer is a voxel of the searched one."""
    first, second = torch.rand(1, 1, 24, 16, 40), torch.rand(1, 1, 17, 33, 24)
    joined = net.join(net.encode(first), net.encode(second))
    for backward, shape in ((False, [17, 33, 24]), (True, [24, 16, 40])):
        found = net.look_up(joined, queries(), backward)
        assert found.points.shape == (1, 9, 3)
        if found.log_attention.shape[-1]:
            assert found.log_attention.shape[-1] == len(found.tokens_at)
            assert (found.tokens_at.amax(0) < torch.tensor(shape)).all()
            torch.testing.assert_close(found.log_attention.exp().sum(-1), torch.ones(1, 9))


@pytest.mark.parametrize("head", HEADS)
def test_gradients_reach_every_parameter(head):
    net = network(head).train()
    pair = image(2)
    voxels = (queries(4, 12) * 6 + 8).reshape(2, 2, 12, 3)
    found = BothWays(net)(pair, voxels, torch.tensor([[[16, 24, 32]] * 2] * 2))
    label = torch.cat([voxels.flip(2), (torch.arange(12) % 3 > 0).float().expand(2, 2, 12)[..., None]], -1)
    MatchLoss()(found, label).backward()
    # A shift of all keys moves no softmax: that bias has no gradient by definition.
    idle = [n for n, p in net.named_parameters() if not n.endswith("attention.to_key.bias") and not p.grad.abs().max() > 0]
    assert idle == []


@pytest.mark.parametrize("head", HEADS)
def test_torchscript_is_eager(head):
    net = network(head)
    script = torch.jit.script(net)
    with torch.no_grad():
        for shape in ((24, 16, 32), (17, 24, 8)):
            close(script(image(shape=shape), queries()), net(image(shape=shape), queries()))
        close(script(image()), net(image()))


@torch.no_grad()
def test_both_ways_is_a_look_up_in_each_direction(net):
    """Queries in voxels of their own volume; what lies behind the volumes' own sizes is not looked at."""
    sizes = torch.tensor([[[16, 24, 32], [8, 16, 24]]])
    pair = image(seed=7)
    voxels = torch.stack([queries() * 4 + 5, queries(seed=8) * 3 + 4], 1)
    found = BothWays(net)(pair, voxels, sizes)
    pair[:, 1, 8:], pair[:, 1, :, 16:], pair[:, 1, ..., 24:] = 9.0, 9.0, 9.0
    again = BothWays(net)(pair, voxels, sizes)
    joined = net.join(net.encode(pair[:, :1]), net.encode(pair[:, 1:, :8, :16, :24]))
    for way, shape in enumerate(sizes[0].float()):
        close(found[way].points, again[way].points)
        close(found[way].points, net.look_up(joined, (voxels[:, way] + 0.5) * 2 / shape - 1, way == 1).points)


@pytest.mark.parametrize("head", HEADS)
def test_training_asks_the_answers_for_the_way_back(head):
    """Answers of the first direction are asked in the second volume, and the error there teaches the answers, too."""
    net = network(head).train()
    pair, sizes = image(seed=7), torch.tensor([[[16, 24, 32], [8, 16, 24]]])
    voxels = torch.stack([queries() * 4 + 5, queries(seed=8) * 3 + 4], 1)
    there, _, back, _ = found = BothWays(net, and_back=True)(pair, voxels, sizes)
    joined = net.join(net.encode(pair[:, :1]), net.encode(pair[:, 1:, :8, :16, :24]))
    grid = (there.points + 0.5) * 2 / torch.tensor([8.0, 16.0, 24.0]) - 1
    close(back.points, net.look_up(joined, grid, True).points)
    (slope,) = torch.autograd.grad(back.points.sum(), there.points)
    assert float(slope.abs().max()) > 0
    assert len(found) == 4
    assert len(BothWays(net, and_back=True).eval()(pair, voxels, sizes)) == 2


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="'pointer', 'regression'"):
        QuizNet(head="compass")
