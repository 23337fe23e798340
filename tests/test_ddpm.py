import math

import pytest
import torch

from lib.checks import BadInput
from lib.generators import ddpm
from lib.generators.ddpm import SCALE, STEPS, Ddpm, schedule
from lib.seeds import torch_rng

VARIANCES = pytest.mark.parametrize("variance", ["beta", "posterior"])


def knows_the_point(point):
    """The best possible denoiser when all data lie at one point: v from x_t alone."""
    signal, noise, _ = schedule(STEPS)

    def v(x_t, t):
        a, s, x0 = signal[t, None].float(), noise[t, None].float(), SCALE * torch.tensor(point)
        return a * (x_t - a * x0) / s - s * x0

    return v


def test_schedule_goes_from_data_to_noise():
    signal, noise, beta = schedule(STEPS)
    assert signal[0] == 1
    assert noise[0] == 0
    assert beta[0] == 0
    assert signal[-1] < 0.01
    assert (signal.diff() < 0).all()
    assert ((beta[1:] > 0) & (beta[1:] <= 0.999)).all()


def test_schedule_identities():
    signal, noise, beta = schedule(STEPS)
    assert torch.allclose(signal**2 + noise**2, torch.ones(STEPS + 1, dtype=torch.float64), atol=1e-15)
    assert torch.allclose(signal[1:] ** 2, signal[:-1] ** 2 * (1 - beta[1:]), rtol=1e-12)
    t = torch.arange(20, 80) / STEPS
    cosine = ((t + 0.008) / 1.008 * math.pi / 2).cos() / math.cos(0.008 / 1.008 * math.pi / 2)
    assert torch.allclose(signal[20:80].float(), cosine, atol=1e-5)


def test_the_training_target_is_v(monkeypatch):
    captured = {}
    monkeypatch.setattr(ddpm, "train", lambda net, loss, *args, **options: captured.update(loss=loss))
    model = Ddpm(seed=0, width=8)
    model.fit(torch.zeros(1, 2), 1, seed=0)
    point = (0.7, -1.2)
    model.net = knows_the_point(point)
    x = torch.tensor([point]).expand(2000, 2)
    assert captured["loss"](x, torch_rng(1)) < 1e-6
    model.net = lambda x_t, t: torch.zeros_like(x_t)
    assert captured["loss"](x, torch_rng(1)) > 0.5


@VARIANCES
def test_sampling_with_the_best_denoiser_of_a_point_returns_the_point(variance):
    model = Ddpm(seed=0, width=8, variance=variance)
    model.net = knows_the_point((0.7, -1.2))
    assert torch.allclose(model.sample(50, seed=1), torch.tensor([0.7, -1.2]).expand(50, 2), atol=1e-3)


def test_beta_variance_is_exact_for_unit_gaussian_data():
    model = Ddpm(seed=0, width=8, variance="beta")
    model.net = lambda x, t: torch.zeros_like(x)  # a standard normal needs v = 0
    x = SCALE * model.sample(40_000, seed=1)
    assert x.std(0).tolist() == pytest.approx([1, 1], rel=0.008)
    assert x.mean(0).tolist() == pytest.approx([0, 0], abs=0.02)


def test_posterior_variance_shrinks_unit_gaussian_data_by_the_factor_theory_gives():
    _, noise, beta = schedule(STEPS)
    expected = 1.0
    for t in range(STEPS, 0, -1):
        expected = (1 - beta[t]) * expected + beta[t] * (noise[t - 1] / noise[t]) ** 2
    model = Ddpm(seed=0, width=8, variance="posterior")
    model.net = lambda x, t: torch.zeros_like(x)
    x = SCALE * model.sample(40_000, seed=1)
    assert math.sqrt(expected) < 0.98
    assert x.std(0).tolist() == pytest.approx([math.sqrt(expected)] * 2, rel=0.008)


def test_a_single_gaussian_is_learnt():
    data = torch.tensor([1.0, -0.5]) + 0.4 * torch.randn(5000, 2, generator=torch_rng(0))
    model = Ddpm(seed=1)
    losses = model.fit(data, 600, seed=2)
    x = model.sample(4000, seed=3)
    assert x.mean(0).tolist() == pytest.approx([1.0, -0.5], abs=0.05)
    assert x.std(0).tolist() == pytest.approx([0.4, 0.4], rel=0.1)
    assert len(losses) == 600
    assert sum(losses[-100:]) / 100 < 0.7 * sum(losses[:20]) / 20


def test_the_seeds_decide_weights_training_and_samples_bit_for_bit():
    def build(weights=1, fit=2, sample=3):
        model = Ddpm(seed=weights, width=16)
        model.fit(torch.ones(20, 2), 5, seed=fit, batch=16)
        return model.sample(100, seed=sample)

    assert torch.equal(build(), build())
    for other in (build(weights=9), build(fit=9), build(sample=9)):
        assert not torch.equal(build(), other)


def test_weights_travel_through_a_state_dict():
    one, two = Ddpm(seed=1, width=16), Ddpm(seed=2, width=16)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.sample(30, seed=3), two.sample(30, seed=3))


def test_large_samples_are_drawn_in_independent_chunks(monkeypatch):
    monkeypatch.setattr(ddpm, "CHUNK", 100)
    x = Ddpm(seed=1, width=8).sample(250, seed=2)
    assert x.shape == (250, 2)
    assert len(x.unique(dim=0)) == 250


def test_no_samples_make_an_empty_table():
    assert Ddpm(seed=1, width=8).sample(0, seed=1).shape == (0, 2)


@pytest.mark.parametrize("bad", [{"variance": "learned"}, {"width": 0}, {"width": 8.0}])
def test_bad_options_are_refused_by_name(bad):
    with pytest.raises(BadInput, match=next(iter(bad))):
        Ddpm(seed=0, **bad)


@pytest.mark.parametrize("n", [-1, 2.5])
def test_bad_sample_counts_are_refused(n):
    with pytest.raises(BadInput, match="n = "):
        Ddpm(seed=0, width=8).sample(n, seed=0)


def test_every_diffusion_step_is_trained(monkeypatch):
    captured, seen = {}, []
    monkeypatch.setattr(ddpm, "train", lambda net, loss, *args, **options: captured.update(options, loss=loss))
    model = Ddpm(seed=0, width=8)
    model.fit(torch.zeros(1, 2), 1, seed=0, decay="linear")
    assert captured["decay"] == "linear", "what is asked for comes before the default"
    model.net = lambda x, t: seen.append(t) or torch.zeros_like(x)
    captured["loss"](torch.zeros(20_000, 2), torch_rng(0))
    assert seen[0].unique().tolist() == list(range(1, STEPS + 1))
