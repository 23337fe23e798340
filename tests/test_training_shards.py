"""Training in shards: the same gradient, and the same bits after an interruption, in either memory layout."""

import itertools

import pytest
import torch
from torch import nn

from lib.checks import BadInput
from lib.generators import training
from lib.generators.training import flattened, sharded_backward, train
from lib.parallel import one_thread_each, parallel_map, threads
from lib.seeds import torch_rng

IMAGES = torch.rand(20, 3, 6, 6, generator=torch_rng(0))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def network(layout="contiguous") -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        widths = itertools.pairwise([3, 8, 8, 3])
        layers = [layer for a, b in widths for layer in (nn.Conv2d(a, b, 3, padding=1), nn.SiLU())]
        net = nn.Sequential(*layers[:-1])
    return net.to(memory_format=LAYOUTS[layout])


def denoising(net):
    """Squared error of the images from noisy ones, the noise drawn with the generator given."""
    return lambda x, rng: (net(x + torch.randn(x.shape, generator=rng)) - x).square().mean()


def plain(net):
    """The same without noise: a function of the rows alone."""
    return lambda x, rng: (net(x) - x).square().mean()


def gradient_norm(net):
    return torch.stack([p.grad.norm() for p in net.parameters()]).norm()


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.fixture
def gradients(monkeypatch):
    """The whole gradient of each step of `train`, before it is clipped."""
    seen, clip = [], nn.utils.clip_grad_norm_

    def spy(parameters, limit):
        parameters = list(parameters)
        seen.append(torch.cat([p.grad.flatten() for p in parameters]))
        return clip(parameters, limit)

    monkeypatch.setattr(training.nn.utils, "clip_grad_norm_", spy)
    return seen


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("muon_lr", [0.0, 0.02])
def test_interrupted_training_resumes_to_the_same_bits(tmp_path, muon_lr, shards, layout):
    options = {"seed": 3, "batch": 6, "lr": 0.01, "decay": "cosine", "warmup": 3, "checkpoint_every": 5}
    options |= {"shards": shards, "muon_lr": muon_lr}
    path, calls = tmp_path / "half.safetensors", itertools.count(1)
    whole, half, resumed = network(layout), network(layout), network(layout)
    losses = train(whole, denoising(whole), IMAGES, 18, **options)

    def killed(x, rng):
        if next(calls) > 13 * shards:
            raise InterruptedError
        return denoising(half)(x, rng)

    with pytest.raises(InterruptedError):
        train(half, killed, IMAGES, 18, checkpoint=path, **options)
    rest = train(resumed, denoising(resumed), IMAGES, 18, checkpoint=path, **options)
    assert rest == losses[10:]
    assert torch.equal(weights(resumed), weights(whole))
    assert [p.name for p in tmp_path.iterdir()] == ["half.safetensors"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("batch", "shards"), [(8, 2), (7, 2), (7, 3), (4, 3), (3, 3)])
def test_shards_change_neither_loss_nor_gradient(gradients, batch, shards, layout):
    options = {"seed": 1, "batch": batch, "lr": 1e-3}
    one, many = network(layout), network(layout)
    loss = train(one, plain(one), IMAGES, 1, **options)
    assert train(many, plain(many), IMAGES, 1, shards=shards, **options) == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-5 * float(gradients[0].abs().max()))


def test_training_in_shards_is_reproducible_whatever_the_threads():
    results = []
    for n in (1, 2, 2):
        net = network()
        with threads(n):
            train(net, denoising(net), IMAGES, 8, seed=0, batch=6, lr=1e-2, shards=2)
        results.append(weights(net))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])


def test_each_shard_and_each_step_has_noise_of_its_own():
    net, noise = network(), []

    def loss(x, rng):
        noise.append(tuple(torch.rand(3, generator=rng).tolist()))
        return plain(net)(x, rng)

    train(net, loss, IMAGES, 4, seed=0, batch=6, lr=1e-2, shards=2)
    assert len(noise) == len(set(noise)) == 8


def test_preparing_a_step_ahead_changes_nothing():
    def noisy(x, rng):
        return x, torch.randn(x.shape, generator=rng)

    def of_both(net):
        return lambda x, noise: (net(x + noise) - x).square().mean()

    inside, ahead = network(), network()
    options = {"seed": 0, "batch": 6, "lr": 1e-2}
    expected = train(inside, lambda x, rng: of_both(inside)(*noisy(x, rng)), IMAGES, 6, **options)
    assert train(ahead, of_both(ahead), IMAGES, 6, prepare=noisy, **options) == expected
    assert torch.equal(weights(inside), weights(ahead))


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_what_is_prepared_is_cut_into_shards_row_by_row(gradients, shards):
    """7 rows among 4 shards: 2, 2, 2 and 1, each with its own weight."""

    def numbered(x, rng):
        return x, torch.arange(1.0, 8.0)

    net = network()

    def weighted(x, number):
        return ((net(x) - x).square().mean((1, 2, 3)) * number).mean()

    losses = train(net, weighted, IMAGES, 1, seed=1, batch=7, lr=1e-3, shards=shards, prepare=numbered)
    same = network()
    rows = training.as_mixture(IMAGES).draw(7, torch_rng(training.derive(1, "step", index=0)))
    loss = ((same(rows) - rows).square().mean((1, 2, 3)) * torch.arange(1.0, 8.0)).mean()
    loss.backward()
    assert losses == pytest.approx([loss.item()], rel=1e-5)
    assert float(gradients[0].norm()) == pytest.approx(float(gradient_norm(same)), rel=1e-4)


def test_an_error_while_preparing_comes_out():
    def broken(x, rng):
        raise LookupError("no such row")

    net = network()
    with pytest.raises(LookupError, match="no such row"):
        train(net, plain(net), IMAGES, 3, seed=0, batch=4, lr=1e-2, prepare=broken)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_as_one_vector_computes_the_same_and_is_given_back_as_it_was(layout):
    net, same = network(layout), network(layout)
    before = [(p.detach().clone(), p.stride()) for p in net.parameters()]
    with flattened(net) as vector:
        assert torch.equal(net(IMAGES), same(IMAGES))
        for _ in range(2):  # gradients add up, as ever
            plain(net)(IMAGES, None).backward()
            plain(same)(IMAGES, None).backward()
        for p, q in zip(net.parameters(), same.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad)
            assert p.stride() == q.stride()
            assert p.data_ptr() % 64 == vector.data_ptr() % 64
        assert float(vector.grad.square().sum()) == pytest.approx(float(gradient_norm(same)) ** 2, rel=1e-5)
        vector.data.mul_(2)
    for (value, stride), p in zip(before, net.parameters(), strict=True):
        assert torch.equal(p, 2 * value)
        assert p.stride() == stride
        assert p.grad is None
        assert p.untyped_storage().nbytes() == 4 * p.numel(), "a memory of its own"


def test_a_checkpoint_of_another_network_or_memory_layout_is_refused(tmp_path):
    net, path = network(), tmp_path / "half.safetensors"
    options = {"seed": 0, "batch": 4, "lr": 1e-2, "checkpoint": path, "checkpoint_every": 2}
    train(net, plain(net), IMAGES, 3, **options)
    for other in (network("channels_last"), nn.Conv2d(3, 3, 3, padding=1)):
        with pytest.raises(BadInput, match="must be of this network"):
            train(other, plain(other), IMAGES, 3, **options)


@pytest.mark.parametrize("other", [{"seed": 1}, {"lr": 2e-2}, {"batch": 2}, {"decay": "linear"}, {"steps": 5}])
def test_a_checkpoint_of_another_training_is_refused(tmp_path, other):
    net, path = network(), tmp_path / "half.safetensors"
    options = {"steps": 3, "seed": 0, "batch": 4, "lr": 1e-2, "checkpoint": path, "checkpoint_every": 2}
    train(net, plain(net), IMAGES, **options)
    (key,) = other
    with pytest.raises(BadInput, match=f"of this training; it differs in {key}: delete it to start anew"):
        train(net, plain(net), IMAGES, **options | other)


@pytest.mark.parametrize("shards", [0, 5])
def test_more_shards_than_rows_are_refused(shards):
    net = network()
    with pytest.raises(BadInput, match=f"shards = {shards}: must be in 1..4"):
        train(net, plain(net), IMAGES, 1, seed=0, batch=4, lr=1e-2, shards=shards)


def test_sharded_gradients_are_those_of_the_sum():
    p, q = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor(3.0))
    p.grad = torch.full((2,), 100.0)  # a left-over is replaced, not added to
    whole = p.grad
    losses = [lambda: (p * q).sum(), lambda: 2 * p.square().sum() + q]
    assert float(sharded_backward([p, q], losses, one_thread_each(2))) == 9 + 10 + 3
    assert whole.tolist() == [3 + 4, 3 + 8]
    assert float(q.grad) == 3 + 1


def test_parallel_map_keeps_the_order_and_gives_each_item_one_thread():
    with threads(2):
        seen = list(parallel_map(lambda i: (i, torch.get_num_threads()), range(20), "cpu"))
        assert torch.get_num_threads() == 2
    assert seen == [(i, 1) for i in range(20)]


@pytest.mark.parametrize(
    "other", [{"warmup": 1}, {"ema_decay": 0.5}, {"clip": 2.0}, {"shards": 2}, {"muon_lr": 0.02}]
)
def test_every_option_of_a_training_is_told_by_its_checkpoint(tmp_path, other):
    net, path = network(), tmp_path / "half.safetensors"
    options = {"seed": 0, "batch": 4, "lr": 1e-2, "muon_lr": 0.01, "checkpoint": path, "checkpoint_every": 2}
    train(net, plain(net), IMAGES, 3, **options)
    with pytest.raises(BadInput, match=f"it differs in {next(iter(other))}: delete it to start anew"):
        train(net, plain(net), IMAGES, 3, **options | other)
