import math

import pytest
import torch
from torch import nn

from lib import sealed
from lib.checks import BadInput
from lib.generators.training import Ema, Mixture, NonFiniteLoss, learning_rate, train
from lib.parallel import threads
from lib.seeds import torch_rng

DATA = torch.arange(10.0)[:, None]


def quadratic(net):
    """Squared error of a linear map that should double its input, with noise from the step's generator."""

    def loss(x, rng):
        return (net(x) - 2 * x + 0.1 * torch.randn(x.shape, generator=rng)).square().mean()

    return loss


def linear():
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, 0.5)
    nn.init.zeros_(net.bias)
    return net


def weights(net):
    return torch.cat([p.detach().ravel() for p in net.parameters()])


def test_mixture_draws_its_parts_in_proportion_whatever_their_sizes():
    mixture = Mixture([torch.zeros(3, 1), torch.ones(1000, 1), torch.full((50, 1), 2.0)], [2, 1, 1])
    drawn = mixture.draw(40_000, torch_rng(0)).ravel().long()
    assert (drawn.bincount() / 40_000).tolist() == pytest.approx([0.5, 0.25, 0.25], abs=0.01)


def test_mixture_draws_evenly_inside_a_part():
    drawn = Mixture([DATA, torch.zeros(0, 1)], [1, 0]).draw(50_000, torch_rng(1)).ravel().long()
    assert (drawn.bincount(minlength=10) / 50_000).tolist() == pytest.approx([0.1] * 10, abs=0.007)


@pytest.mark.parametrize("shares", [[1], [0, 0], [1, -1], [1, math.nan], [1, math.inf]])
def test_mixture_refuses_bad_weights(shares):
    with pytest.raises(BadInput, match="weights"):
        Mixture([DATA, DATA], shares)


def test_mixture_refuses_an_empty_part_that_is_used():
    with pytest.raises(BadInput, match="parts"):
        Mixture([DATA, DATA[:0]], [1, 1])


def test_learning_rate_schedules():
    assert learning_rate(0, 100, lr=1.0, warmup=10) == 0.1
    assert learning_rate(50, 100, lr=1.0) == 1.0
    assert learning_rate(0, 100, lr=1.0, decay="cosine") == pytest.approx(1.0)
    assert learning_rate(100, 100, lr=1.0, decay="cosine") == pytest.approx(0.1)
    assert learning_rate(50, 100, lr=1.0, decay="linear") == 1.0
    assert learning_rate(75, 100, lr=1.0, decay="linear") == pytest.approx(0.5)


def test_training_leaves_the_average_of_the_weights_not_the_last_ones():
    net, steps, lr, limit = linear(), 30, 0.01, 0.9
    train(net, lambda x, rng: net.weight.sum(), DATA, steps, seed=0, batch=2, lr=lr, ema_decay=limit)
    now = average = 0.5
    for t in range(1, steps + 1):
        now -= lr  # Adam on a constant gradient walks lr a step
        decay = min(limit, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * now
    assert net.weight.item() == pytest.approx(average, abs=1e-5)
    assert abs(average - now) > 0.01


def test_the_averages_own_decay_acts_only_after_its_ramp():
    """Up to about 9 / (1 - decay) updates, two decays give one average."""
    short, long, rng = Ema(torch.zeros(1), 0.9), Ema(torch.zeros(1), 0.999), torch_rng(0)
    for t in range(1, 100):
        value = torch.randn(1, generator=rng)
        short.update(value)
        long.update(value)
        assert torch.equal(short.average, long.average) == (t <= 80)


def test_average_without_decay_follows_the_weights():
    ema = Ema(torch.tensor([1.0, 2.0]), 0.0)
    ema.update(torch.tensor([3.0, 4.0]))
    assert ema.average.tolist() == [3.0, 4.0]


def test_training_fits_and_reports_one_loss_a_step():
    net = linear()
    losses = train(net, quadratic(net), DATA, 400, seed=0, batch=8, lr=0.05, ema_decay=0.9)
    assert len(losses) == 400
    assert net.weight.item() == pytest.approx(2, abs=0.1)
    assert not net.training


def test_no_steps_leave_the_weights_alone():
    net = linear()
    assert train(net, quadratic(net), DATA, 0, seed=0, batch=8, lr=0.1) == []
    assert net.weight.item() == 0.5


def test_interrupted_training_resumes_to_the_same_bits(scratch):
    options = {"seed": 3, "batch": 4, "lr": 0.01, "decay": "cosine", "checkpoint_every": 5}
    whole, halves = linear(), linear()
    train(whole, quadratic(whole), DATA, 23, **options)
    file, calls = scratch / "half.safetensors", 0

    def interrupted(x, rng):
        nonlocal calls
        calls += 1
        if calls == 13:
            raise KeyboardInterrupt
        return quadratic(halves)(x, rng)

    with pytest.raises(KeyboardInterrupt):
        train(halves, interrupted, DATA, 23, checkpoint=file, **options)
    halves = linear()
    losses = train(halves, quadratic(halves), DATA, 23, checkpoint=file, **options)
    assert len(losses) == 13  # goes on from step 10
    assert torch.equal(weights(whole), weights(halves))


def test_a_loss_that_is_not_finite_stops_training_and_names_the_step():
    net, steps = linear(), iter(range(1000))

    def loss(x, rng):
        return net.weight.sum() * (math.nan if next(steps) == 7 else 1.0)

    with pytest.raises(NonFiniteLoss, match="step 7"):
        train(net, loss, DATA, 50, seed=0, batch=2, lr=0.1)


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": -1}, {"batch": 0}, {"lr": 0.0}, {"lr": math.nan}, {"decay": "step"}, {"ema_decay": 1.0},
        {"clip": 0.0}, {"clip": -1.0}, {"clip": math.nan}, {"clip": math.inf}, {"warmup": -1}, {"warmup": 0.5},
        {"checkpoint_every": 0}, {"checkpoint_every": 1.5},
    ],
)  # fmt: skip
def test_bad_training_options_are_refused_by_name(bad):
    net = linear()
    options = {"steps": 3, "seed": 0, "batch": 2, "lr": 0.1} | bad
    with pytest.raises(BadInput, match=f"^{next(iter(bad))} = .*: must be "):
        train(net, quadratic(net), DATA, **options)


def interrupted(data, path, **options):
    """A training that leaves a checkpoint of its second step behind, or goes on from it."""
    net = linear()
    options = {"seed": 0, "batch": 2, "lr": 0.1, "checkpoint": path, "checkpoint_every": 2} | options
    return train(net, quadratic(net), data, 3, **options)


@pytest.mark.parametrize(
    "other",
    [
        DATA + 1,
        DATA[:9],
        DATA.int(),
        Mixture([DATA, DATA + 1], [1, 2]),
        Mixture([DATA[:5], torch.cat([DATA[5:], DATA + 1])], [1, 1]),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(scratch, other):
    data, path = Mixture([DATA, DATA + 1], [1, 1]), scratch / "half.safetensors"
    interrupted(data, path)
    assert len(interrupted(Mixture([DATA.clone(), DATA + 1], [2, 2]), path)) == 1  # the same law goes on
    with pytest.raises(BadInput, match="of this training; it differs in data: delete it to start anew"):
        interrupted(other, path)


def test_a_checkpoint_of_another_identity_is_refused(scratch):
    path = scratch / "half.safetensors"
    interrupted(DATA, path, identity={"flip": True})
    assert len(interrupted(DATA, path, identity={"flip": True})) == 1
    with pytest.raises(BadInput, match="it differs in flip: delete it"):
        interrupted(DATA, path, identity={"flip": False})


def test_data_are_read_whole_only_for_a_checkpoint(monkeypatch):
    monkeypatch.delattr(sealed, "content_digest")
    assert len(interrupted(DATA, None)) == 3


def test_thread_count_is_restored():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), threads(1):
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_a_gradient_is_clipped_to_the_norm_asked_for():
    """Far below Adam's epsilon (1e-8) a gradient hardly moves the weights, so the limit shows in their way."""
    gone = {}
    for clip in (1e-10, 1.0):
        net = linear()
        start = weights(net)
        train(net, quadratic(net), DATA, 20, seed=0, batch=8, lr=1e-2, ema_decay=0.0, clip=clip)
        gone[clip] = float((weights(net) - start).norm())
    assert 0 < gone[1e-10] < 0.1 * gone[1.0]
