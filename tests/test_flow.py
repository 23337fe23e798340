"""OT-CFM against closed forms: paths, pairings, solvers; and a small flow trained on a known distribution."""

import itertools
import math

import numpy as np
import pytest
import torch

from lib.checks import BadInput
from lib.classifier import Classifier, ClassifierSettings
from lib.datasets import to_float, to_uint8
from lib.generators import training
from lib.generators.flow import METHODS, Flow, integrate, ot_pairing, straight_path
from lib.generators.networks import (
    Attention,
    ConvSettings,
    Doubled,
    GroupNorm,
    MlpSettings,
    UNetSettings,
    build,
    settings_from_dict,
    settings_to_dict,
)
from lib.generators.training import Mixture, NonFiniteLoss
from lib.parallel import threads
from lib.seeds import torch_rng

PIXELS = MlpSettings(shape=(1, 2, 2), width=48, blocks=2)
SMALL = MlpSettings(shape=(1, 2, 2), width=8, blocks=1)
CONV = ConvSettings(shape=(3, 8, 8), channels=(32, 64))
UNET = UNetSettings(shape=(3, 8, 8), channels=(32, 32), blocks=1, groups=8)
MEAN = torch.tensor([-0.4, 0.0, 0.3, 0.2]).reshape(1, 2, 2)
STD = torch.tensor([0.1, 0.2, 0.3, 0.15]).reshape(1, 2, 2)


def tiny_images(n: int, seed: int = 0) -> torch.Tensor:
    """Images of 2x2 pixels, Gaussian with MEAN and STD; the two pixels of the upper row are correlated, 0.8."""
    z = torch.randn(n, 1, 2, 2, generator=torch_rng(seed))
    z[:, 0, 0, 1] = 0.8 * z[:, 0, 0, 0] + 0.6 * z[:, 0, 0, 1]
    return to_uint8(MEAN + STD * z)


def noisy(shape, n: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch_rng(seed))


def shaken(flow: Flow, seed: int = 0) -> Flow:
    """The flow with every weight moved, also those that start at zero."""
    rng = torch_rng(seed)
    with torch.no_grad():
        for p in flow.net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=rng))
    return flow


def weights(flow: Flow) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in flow.net.parameters()])


@pytest.fixture(scope="module")
def trained() -> tuple[Flow, list[float]]:
    """A flow trained on `tiny_images`, and its losses."""
    flow = Flow(PIXELS, seed=1)
    with threads(1):
        losses = flow.fit(tiny_images(4000), 500, seed=0, batch=128, lr=4e-3, decay="linear", ema_decay=0.98)
    return flow, losses


# the straight path


def test_a_path_runs_straight_from_noise_to_data_at_the_velocity_target():
    x0, x1 = torch.randn(2, 5, 3, 4, 4, generator=torch_rng(0), dtype=torch.float64)
    start, velocity = straight_path(x0, x1, torch.zeros(5))
    assert torch.equal(start, x0)
    torch.testing.assert_close(straight_path(x0, x1, torch.ones(5))[0], x1)
    assert torch.equal(velocity, x1 - x0)
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    ahead, behind = straight_path(x0, x1, t + 1e-3)[0], straight_path(x0, x1, t - 1e-3)[0]
    torch.testing.assert_close((ahead - behind) / 2e-3, velocity)


def test_the_loss_vanishes_at_the_true_velocity_and_only_there():
    """All data in one point c: noise x0 = (x - t c) / (1 - t), and the velocity at (x, t) is c - x0."""
    flow = Flow(SMALL, ot=False)
    c = to_float(tiny_images(1))[0]

    def truth(x, t):
        t = t[:, None, None, None]
        return c - (x - t * c) / (1 - t)

    drawn = flow._pairs(to_uint8(c).expand(64, -1, -1, -1), torch_rng(3))
    flow._call = truth
    assert float(flow._loss(*drawn)) < 1e-6
    flow._call = lambda x, t: -truth(x, t)
    assert float(flow._loss(*drawn)) > 0.5


def test_times_fill_the_unit_interval():
    _, _, t = Flow(SMALL, ot=False)._pairs(tiny_images(1).expand(4000, -1, -1, -1), torch_rng(0))
    share = torch.histc(t, 10, 0, 1) / 4000
    assert float(share.sum()) == pytest.approx(1)
    assert share.tolist() == pytest.approx([0.1] * 10, abs=0.025)


# pairs of noise and data


def cost(x0, x1):
    return float((x0 - x1).flatten(1).square().sum(dim=1).double().mean())


def test_pairing_is_the_cheapest_of_all_permutations():
    for seed in range(5):
        x0, x1 = torch.randn(2, 6, 1, 2, 2, generator=torch_rng(seed))
        best = min(cost(x0, x1[list(p)]) for p in itertools.permutations(range(6)))
        pairing = ot_pairing(x0, x1)
        assert pairing.sort().values.tolist() == list(range(6))
        assert cost(x0, x1[pairing]) == pytest.approx(best, rel=1e-6)


def test_pairing_costs_what_pot_finds_and_less_than_chance():
    ot = pytest.importorskip("ot", reason="POT is not installed")
    x0, x1 = torch.randn(2, 64, 3, 8, 8, generator=torch_rng(7))
    x1 = 0.5 * x1 + 0.3
    costs = torch.cdist(x0.flatten(1).double(), x1.flatten(1).double()).square().numpy()
    even = np.full(64, 1 / 64)
    ours = cost(x0, x1[ot_pairing(x0, x1)])
    assert ours == pytest.approx(ot.emd2(even, even, costs), rel=1e-5)
    assert torch.equal(torch.from_numpy(ot.emd(even, even, costs).argmax(axis=1)), ot_pairing(x0, x1))
    assert ours < 0.97 * min(cost(x0, x1[torch.randperm(64, generator=torch_rng(s))]) for s in range(10))


def test_pairing_refuses_unequal_numbers():
    with pytest.raises(BadInput, match=r"len\(x1\) = 3"):
        ot_pairing(torch.zeros(4, 2), torch.zeros(3, 2))


@pytest.mark.parametrize("ot", [True, False])
def test_training_pairs_noise_with_the_minibatch(ot):
    images = tiny_images(32)
    x0, x1, _ = Flow(SMALL, ot=ot)._pairs(images, torch_rng(5))
    order = ot_pairing(x0, to_float(images))
    assert torch.equal(x1, to_float(images)[order] if ot else to_float(images))  # exact greys in [-1, 1]
    assert not torch.equal(order, torch.arange(32))
    assert abs(float(x0.mean())) < 0.3
    assert 0.8 < float(x0.std()) < 1.2


def test_flips_mirror_about_half_of_the_images_left_to_right():
    images = noisy((3, 8, 8), n=400)
    straight, mirrored = to_float(images), to_float(images).flip(3)
    _, x1, _ = Flow(CONV, ot=False, flip=True)._pairs(images, torch_rng(0))
    left = (x1 == straight).flatten(1).all(dim=1)
    right = (x1 == mirrored).flatten(1).all(dim=1)
    assert (left ^ right).all()
    assert 0.4 < float(right.double().mean()) < 0.6
    _, x1, _ = Flow(CONV, ot=False)._pairs(images, torch_rng(0))
    assert torch.equal(x1, straight)


@pytest.mark.parametrize("lam", [0.25, 1.0, 4.0])
def test_the_synthetic_share_of_minibatches_is_lambda_over_one_plus_lambda(lam):
    """Eq. 4, counted in what the training sees; the parts' sizes do not matter."""
    synthetic, real = noisy((1, 2, 2), 30) // 2, noisy((1, 2, 2), 500) // 2 + 128
    flow, seen = Flow(SMALL, ot=False), []
    pairs = flow._pairs
    flow._pairs = lambda images, rng: seen.append(images) or pairs(images, rng)
    flow.fit(Mixture([synthetic, real], [lam, 1]), 10, seed=0, batch=1000, lr=1e-3)
    share = float((torch.cat(seen[:10]) < 128).all(dim=3).all(dim=2).double().mean())
    assert share == pytest.approx(lam / (1 + lam), abs=0.02)


# solvers, against the closed form of a Gaussian-to-Gaussian flow


def gaussian_field(mean, std):
    """Independent pairs of N(0, 1) and N(mean, std^2): x_t is N(t mean, (1-t)^2 + t^2 std^2), map mean + std x."""

    def velocity(x, t):
        variance = (1 - t) ** 2 + (t * std) ** 2
        return mean + (t * std**2 - (1 - t)) / variance * (x - t * mean)

    return velocity


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("adams", 3)])
def test_fixed_steps_converge_to_the_closed_form_at_their_order(method, order):
    """At least at it: on this field the midpoint rule gains an order."""
    mean, std = MEAN.double(), STD.double() + 0.2
    noise = torch.randn(50, 1, 2, 2, generator=torch_rng(0), dtype=torch.float64)
    errors = []
    for steps in (64, 128, 256):
        x = integrate(gaussian_field(mean, std), noise, method=method, steps=steps)
        errors.append(float((x - (mean + std * noise)).abs().max()))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert min(rates) > order - 0.25
    assert errors[-1] < (0.05 if order == 1 else 2e-3)


def test_midpoint_and_heun_are_different_methods():
    """On dx/dt = t^2 one step of midpoint gives 1/4 and one of Heun 1/2; Euler gives 0, the truth is 1/3."""
    ends = {m: float(integrate(lambda x, t: t**2 + 0 * x, torch.zeros(1), method=m, steps=1)) for m in METHODS}
    expected = {"adams": 1 / 4, "midpoint": 1 / 4, "heun": 1 / 2, "euler": 0, "dopri5": 1 / 3}  # adams begins so
    assert ends == pytest.approx(expected, abs=1e-4)


def test_adams_weighs_the_slopes_of_three_steps():
    """On dx/dt = f(t): midpoint's first step, then h (3 f_1 - f_0) / 2, then h (23 f_2 - 16 f_1 + 5 f_0) / 12."""
    f, h = [0.0, 1 / 27, 8 / 27], 1 / 3
    expected = h * (1 / 6) ** 3 + h * (3 * f[1] - f[0]) / 2 + h * (23 * f[2] - 16 * f[1] + 5 * f[0]) / 12
    end = integrate(lambda x, t: t**3 + 0 * x, torch.zeros(1), method="adams", steps=3)
    assert float(end) == pytest.approx(expected, abs=1e-6)


def test_dopri5_meets_the_closed_form():
    noise = torch.randn(50, 1, 2, 2, generator=torch_rng(0))
    x = integrate(gaussian_field(MEAN, STD + 0.2), noise, method="dopri5", steps=1)
    assert float((x - MEAN - (STD + 0.2) * noise).square().mean().sqrt()) < 1e-4


def test_optimally_paired_gaussians_have_straight_paths_that_one_step_follows():
    def velocity(x, t):  # x_t = t mean + (1 - t + t std) x_0
        return MEAN + (STD - 1) * (x - t * MEAN) / (1 - t + t * STD)

    noise = torch.randn(50, 1, 2, 2, generator=torch_rng(0))
    for method in ("euler", "midpoint"):
        x = integrate(velocity, noise, method=method, steps=1)
        torch.testing.assert_close(x, MEAN + STD * noise, rtol=0, atol=1e-5)


def test_unknown_solver_is_refused():
    with pytest.raises(BadInput, match="method = 'rk4'"):
        integrate(lambda x, t: x, torch.zeros(1), method="rk4", steps=1)


# training and sampling


def test_a_trained_flow_has_the_mean_spread_and_correlation_of_its_data(trained):
    x = to_float(trained[0].sample(3000, seed=2, batch=1500))
    torch.testing.assert_close(x.mean(dim=0), MEAN, rtol=0, atol=0.03)
    torch.testing.assert_close(x.std(dim=0), STD, rtol=0.15, atol=0)
    correlation = torch.corrcoef(x.flatten(1).T)
    assert float(correlation[0, 1]) == pytest.approx(0.8, abs=0.1)
    assert abs(float(correlation[0, 2])) < 0.1


def test_training_pulls_the_loss_down_to_what_the_data_leaves(trained):
    losses = trained[1]
    assert len(losses) == 500
    assert np.mean(losses[-100:]) < 0.2 * np.mean(losses[:5])


def test_fixed_steps_agree_with_dopri5_on_a_trained_network(trained):
    flow = trained[0]
    noise = torch.randn(200, 1, 2, 2, generator=torch_rng(1))
    with torch.no_grad():
        reference = integrate(flow.velocity, noise, method="dopri5", steps=1)
        for method in ("adams", "midpoint", "heun"):
            errors = [
                float((integrate(flow.velocity, noise, method=method, steps=n) - reference).abs().mean())
                for n in (4, 8, 64)
            ]
            assert errors[1] < 0.02
            assert errors[2] < errors[1] < errors[0]
            assert errors[2] < 1e-3


def test_sampling_with_dopri5_gives_the_images_of_the_default_solver(trained, tmp_path):
    trained[0].save(tmp_path / "flow.safetensors", {})
    paper = Flow.load(tmp_path / "flow.safetensors", method="dopri5")
    assert paper.evaluations is None
    difference = paper.sample(200, seed=3).float() - trained[0].sample(200, seed=3).float()
    assert float(difference.abs().mean()) < 2  # grey levels
    assert float((paper.sample(200, seed=4).float() - trained[0].sample(200, seed=3).float()).abs().mean()) > 10


def test_a_seed_gives_one_set_of_bits_whatever_the_threads(trained):
    flow = trained[0]
    with threads(1):
        one = flow.sample(600, seed=5, batch=100)
    with threads(2):
        assert torch.equal(flow.sample(600, seed=5, batch=100), one)
    assert not torch.equal(flow.sample(600, seed=6, batch=100), one)


def test_a_short_request_is_the_beginning_of_a_long_one(trained):
    long = trained[0].sample(250, seed=5, batch=100)
    for n in (0, 1, 100, 130):
        short = trained[0].sample(n, seed=5, batch=100)
        assert (short.shape, short.dtype) == ((n, 1, 2, 2), torch.uint8)
        assert int((short.int() - long[:n].int()).abs().max() if n else 0) <= 1
    assert not torch.equal(long[:100], long[100:200])  # each batch has noise of its own


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    flow = Flow(SMALL, seed=3)
    flow.fit(tiny_images(20), 2, seed=0, batch=8, lr=1e-2)
    flow.sample(3, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again = Flow(SMALL, seed=3)
    again.fit(tiny_images(20), 2, seed=0, batch=8, lr=1e-2)
    assert torch.equal(weights(flow), weights(again))
    assert not torch.equal(weights(Flow(SMALL, seed=4)), weights(Flow(SMALL, seed=3)))


@pytest.mark.parametrize(("method", "stated"), [("euler", 5), ("midpoint", 10), ("heun", 10), ("adams", 6)])
def test_network_evaluations_are_what_is_stated(method, stated):
    flow, calls = Flow(SMALL, method=method, ode_steps=5), []
    flow._call = lambda x, t: calls.append(len(x)) or x
    flow.sample(10, seed=0, batch=10)
    assert flow.evaluations == stated == len(calls)
    assert set(calls) == {10}


@pytest.mark.parametrize(("speed", "grey"), [(9.0, 255), (-9.0, 0)])
def test_samples_outside_the_range_are_clipped_to_it(speed, grey):
    flow = Flow(SMALL)
    flow._call = lambda x, t: torch.full_like(x, speed)
    assert flow.sample(4, seed=0).unique().tolist() == [grey]


def test_a_second_fit_goes_on_from_the_present_weights():
    flow = Flow(SMALL, seed=0)
    first = flow.fit(tiny_images(500), 150, seed=0, batch=64, lr=5e-3, ema_decay=0.9)
    second = flow.fit(tiny_images(500), 20, seed=1, batch=64, lr=1e-4, ema_decay=0.9)
    assert np.mean(second) < 0.5 * np.mean(first[:5])
    assert np.mean(second) == pytest.approx(np.mean(first[-20:]), rel=0.3)
    before = weights(flow)
    assert flow.fit(tiny_images(500), 0, seed=1) == []
    assert torch.equal(weights(flow), before)


def test_samples_come_from_the_averaged_weights(monkeypatch):
    kept = {}

    class Spy(training.Ema):
        def update(self, values):
            super().update(values)
            kept.update(last=values.detach().clone(), average=self.average.clone())

    monkeypatch.setattr(training, "Ema", Spy)
    flow = Flow(SMALL)
    flow.fit(tiny_images(100), 30, seed=0, batch=32, lr=1e-2)
    samples = {}
    for name, values in kept.items():
        other = Flow(SMALL)
        with training.flattened(other.net) as vector:
            vector.data.copy_(values)
        samples[name] = other.sample(50, seed=0)
    assert torch.equal(flow.sample(50, seed=0), samples["average"])
    assert not torch.equal(samples["last"], samples["average"])


def test_a_loss_that_is_not_finite_names_the_step_and_leaves_the_good_checkpoint(tmp_path):
    """Wherever the checkpoints lie, none is written over with weights that are not finite."""
    path, options = tmp_path / "flow.safetensors", {"seed": 0, "batch": 8, "lr": 1e-2, "checkpoint_every": 5}
    whole = Flow(SMALL)
    whole.fit(tiny_images(50), 40, **options)
    flow, calls = Flow(SMALL), itertools.count()
    loss = flow._loss
    flow._loss = lambda *drawn: loss(*drawn) * (math.nan if next(calls) == 12 else 1)
    with pytest.raises(NonFiniteLoss, match="step 12"):
        flow.fit(tiny_images(50), 40, checkpoint=path, **options)
    resumed = Flow(SMALL)
    assert len(resumed.fit(tiny_images(50), 40, checkpoint=path, **options)) == 30  # from step 10 on
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("other", [{"ot": False}, {"flip": True}, {"precision": "bf16"}])
def test_a_checkpoint_of_another_flow_is_refused(tmp_path, other):
    path, options = tmp_path / "flow.safetensors", {"seed": 0, "batch": 8, "checkpoint_every": 2}
    Flow(SMALL).fit(tiny_images(50), 3, checkpoint=path, **options)
    assert len(Flow(SMALL).fit(tiny_images(50), 3, checkpoint=path, **options)) == 1
    with pytest.raises(BadInput, match=f"of this training; it differs in {next(iter(other))}: delete it"):
        Flow(SMALL, **other).fit(tiny_images(50), 3, checkpoint=path, **options)


def test_a_gradient_that_is_not_finite_is_caught_at_the_last_step_too():
    flow, calls = Flow(SMALL), itertools.count()
    loss = flow._loss

    def poisoned(*drawn):
        value = loss(*drawn)
        if next(calls) == 9:
            value.register_hook(lambda gradient: gradient * math.nan)
        return value

    flow._loss = poisoned
    with pytest.raises(NonFiniteLoss, match="step 9"):
        flow.fit(tiny_images(50), 10, seed=0, batch=8)


# networks and settings


def test_the_published_size():
    with torch.device("meta"):
        net = build(UNetSettings())
        x = net(torch.empty(2, 3, 32, 32), torch.empty(2))
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(35.7e6, abs=0.05e6)
    assert x.shape == (2, 3, 32, 32)
    assert {type(m) for m in net.modules() if isinstance(m, torch.nn.GroupNorm)} == {GroupNorm}


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_the_path_of_the_paper_settings(tmp_path, precision):
    """U-Net, dopri5, warm-up, EMA on its ramp, flips, not compiled: the `paper` profile's path at a tiny size."""
    flow = Flow(UNET, method="dopri5", precision=precision, compiled=False, flip=True)
    options = {
        "lr": 2e-4,
        "warmup": 2,
        "ema_decay": 0.9999,
        "clip": 1.0,
        "checkpoint": tmp_path / "p0.safetensors",
    }
    before = weights(flow)
    losses = flow.fit(noisy((3, 8, 8)), 3, seed=0, batch=4, shards=2, checkpoint_every=2, **options)
    assert len(losses) == 3
    assert all(0.1 < loss < 10 for loss in losses)
    assert not torch.equal(weights(flow), before)
    images = flow.sample(2, seed=0)
    assert (images.shape, images.dtype) == ((2, 3, 8, 8), torch.uint8)
    flow.save(tmp_path / "flow.safetensors", {"steps": 3})
    assert torch.equal(weights(Flow.load(tmp_path / "flow.safetensors")), weights(flow))


@pytest.mark.parametrize("settings", [PIXELS, CONV, UNET], ids=["mlp", "conv", "unet"])
def test_networks_map_images_to_images_and_see_the_time(settings):
    flow = shaken(Flow(settings, precision="fp32"))
    x = torch.randn(3, *settings.shape, generator=torch_rng(0))
    with torch.no_grad():
        early, late = flow.velocity(x, torch.tensor(0.1)), flow.velocity(x, torch.tensor([0.1, 0.1, 0.9]))
    assert (early.shape, early.dtype) == (x.shape, torch.float32)
    torch.testing.assert_close(early[:2], late[:2], rtol=1e-4, atol=1e-5)
    assert float((early[2] - late[2]).abs().max()) > 1e-3


def test_bf16_stays_close_to_fp32():
    flows = [shaken(Flow(CONV, precision=p)) for p in ("fp32", "bf16")]
    x = torch.randn(4, 3, 8, 8, generator=torch_rng(0))
    with torch.no_grad():
        full, short = (flow.velocity(x, torch.tensor(0.5)) for flow in flows)
    assert short.dtype == torch.float32
    assert 0 < float((full - short).norm() / full.norm()) < 0.02


@pytest.mark.parametrize("settings", [CONV, UNET], ids=["conv", "unet"])
def test_weights_rounded_once_give_the_samples_of_weights_rounded_at_each_evaluation(settings, monkeypatch):
    flow = shaken(Flow(settings, precision="bf16", ode_steps=2))
    before = weights(flow).clone()
    once = flow.sample(3, seed=0)
    assert torch.equal(weights(flow), before)
    assert weights(flow).dtype == torch.float32
    layers = [m for m in training.rounded(flow.net).modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert {layer.weight.dtype for layer in layers} == {torch.bfloat16}
    monkeypatch.setattr("lib.generators.flow.rounded", lambda net: net)
    assert torch.equal(once, flow.sample(3, seed=0))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("side", [4, 32])
def test_group_norm_in_bf16_is_that_of_fp32_rounded(side, grad):
    x = 2 + 3 * torch.randn(2, 32, side, side, generator=torch_rng(0))
    x, norm = x.bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_(grad), GroupNorm(4, 32)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 32))
    exact = x.detach().float().requires_grad_(grad)
    with torch.set_grad_enabled(grad):
        y, expected = norm(x), torch.nn.functional.group_norm(exact, 4, norm.weight, norm.bias)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=2**-7, atol=2**-7)
    if grad:
        slope = torch.randn(y.shape, generator=torch_rng(1))
        ours = torch.autograd.grad(y, (x, norm.weight), slope.bfloat16())
        theirs = torch.autograd.grad(expected, (exact, norm.weight), slope.bfloat16().float())
        torch.testing.assert_close(ours[0].float(), theirs[0], rtol=2**-7, atol=2**-7)
        torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("places", [(5,), (6, 4)], ids=["rows", "images"])
def test_group_norm_by_channels_is_group_norm(places):
    x = 50 + 3 * torch.randn(3, 32, *places, generator=torch_rng(0))
    if len(places) == 2:
        x = x.contiguous(memory_format=torch.channels_last)
    norm, slope = GroupNorm(4, 32, eps=1e-3), torch.randn(x.shape, generator=torch_rng(1))
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 32))
        norm.bias.copy_(torch.linspace(-1, 1, 32))
    x.requires_grad_()
    found, expected = norm.by_channels(x), torch.nn.functional.group_norm(x, 4, norm.weight, norm.bias, 1e-3)
    assert found.stride() == x.stride()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    of = (x, norm.weight, norm.bias)
    for ours, theirs in zip(*(torch.autograd.grad(y, of, slope) for y in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert norm.by_channels(x.bfloat16()).dtype == torch.float32


def test_doubled_is_a_convolution_of_the_nearest_neighbours():
    layer, x = Doubled(torch.nn.Conv2d(8, 3, 3, padding=1)), torch.randn(2, 8, 3, 5, generator=torch_rng(0))
    larger = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
    torch.testing.assert_close(layer(x), layer.conv(larger))


def test_the_unet_stays_in_channels_last_memory_while_training():
    """At 64 images and more diffusers' own upsampling leaves it, and in training mode its shortcuts do."""
    flow, places = shaken(Flow(UNET, precision="fp32")), []
    flow.net.train()
    convolutions = [m for m in flow.net.modules() if isinstance(m, torch.nn.Conv2d)]
    for layer in convolutions[1:]:  # the first one's input is what the caller gives
        layer.register_forward_pre_hook(
            lambda _, given: places.append(given[0].is_contiguous(memory_format=torch.channels_last))
        )
    flow.velocity(torch.zeros(64, 3, 8, 8).contiguous(memory_format=torch.channels_last), torch.tensor(0.5))
    assert all(places)
    assert len(places) == len(convolutions) - 1


def test_precision_auto_leaves_an_mlp_in_fp32():
    assert Flow(SMALL).precision == "fp32"


@pytest.mark.parametrize("unit", [None, "amx_bf16", "avx512_bf16"])
def test_precision_auto_is_bf16_where_either_unit_of_a_cpu_multiplies_it(unit, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: True})
    assert Flow(CONV).precision == ("bf16" if unit else "fp32")


@pytest.mark.parametrize("settings", [PIXELS, CONV, UNET], ids=["mlp", "conv", "unet"])
def test_save_and_load_bring_back_settings_and_samples(settings, tmp_path):
    flow = shaken(Flow(settings, method="heun", ode_steps=2, ot=False, flip=True, precision="fp32"))
    flow.save(tmp_path / "a.safetensors", {"steps": 1})
    back = Flow.load(tmp_path / "a.safetensors", precision="fp32")
    assert (back.settings, back.method, back.ode_steps, back.ot, back.flip) == (settings, "heun", 2, False, True)
    assert torch.equal(back.sample(4, seed=0), flow.sample(4, seed=0))
    flow.save(tmp_path / "a.safetensors", {}, half=True)
    half = Flow.load(tmp_path / "a.safetensors", precision="fp32", ode_steps=3)
    assert half.ode_steps == 3
    assert 0 < float((weights(half) - weights(flow)).abs().max()) < 2e-3


def test_load_refuses_other_weights(tmp_path):
    Classifier(ClassifierSettings("digits", 0.25)).save(tmp_path / "c.safetensors", {})
    with pytest.raises(BadInput, match=r"c\.safetensors': must be a flow's"):
        Flow.load(tmp_path / "c.safetensors")


def test_settings_survive_a_card():
    for settings in (PIXELS, CONV, UNET):
        values = settings_to_dict(settings)
        assert (
            settings_from_dict({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}) == settings
        )
    with pytest.raises(BadInput, match="kind = 'gan'"):
        settings_from_dict({"kind": "gan"})
    with pytest.raises(BadInput, match="widht"):
        settings_from_dict({"kind": "mlp", "widht": 3})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (MlpSettings(shape=(8, 8)), "shape = "),
        (UNetSettings(shape=(3, 8, 8), channels=(64, 80)), "multiples of groups = 32"),
        (UNetSettings(shape=(3, 8, 8), channels=(32, 64)), "groups = 32 and larger"),  # time would not get in
        (UNetSettings(shape=(3, 6, 6), channels=(64, 64, 64)), "multiples of 4 for 3 levels"),
        (ConvSettings(shape=(3, 8, 8), channels=(16, 64)), "multiples of 32"),
        (ConvSettings(shape=(3, 8, 8), channels=(32, 96)), "64 k at the last level"),
        (ConvSettings(shape=(3, 8, 8), channels=(32, 64), patch=3), "patch = 3"),
        (
            ConvSettings(shape=(3, 6, 6), channels=(32, 64)),
            r"height, width = \(6, 6\): must be multiples of 4 for 2 levels and patches of 2$",
        ),
    ],
)
def test_impossible_networks_are_refused(settings, says):
    with pytest.raises(BadInput, match=says):
        Flow(settings)


@pytest.mark.parametrize("options", [{"method": "rk4"}, {"ode_steps": 0}, {"precision": "fp16"}])
def test_bad_options_are_refused_by_name(options):
    with pytest.raises(BadInput, match=f"{next(iter(options))} = "):
        Flow(SMALL, **options)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (torch.zeros(4, 1, 2, 2), r"data\.dtype"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), r"data\.shape = \(4, 1, 8, 8\): must be \(n, 1, 2, 2\)"),
        (torch.zeros(0, 1, 2, 2, dtype=torch.uint8), "parts"),
    ],
)
def test_bad_data_is_refused(data, says):
    with pytest.raises(BadInput, match=says):
        Flow(SMALL).fit(data, 1, seed=0)


@pytest.mark.parametrize(("n", "batch"), [(-1, 1), (1.5, 1), (1, 0)])
def test_bad_requests_are_refused(n, batch):
    with pytest.raises(BadInput):
        Flow(SMALL).sample(n, seed=0, batch=batch)


def test_flips_are_of_training_only():
    small = MlpSettings((1, 8, 8), 8, 1)
    assert torch.equal(Flow(small, flip=True).sample(9, seed=0), Flow(small).sample(9, seed=0))


@pytest.mark.parametrize("method", METHODS)
def test_the_adaptive_solver_has_full_precision_and_the_others_the_flows(method, monkeypatch):
    flow, asked = Flow(SMALL, method=method, precision="bf16", ode_steps=1), set()
    monkeypatch.setattr(flow, "_velocity", lambda net, precision, x, t: asked.add(precision) or 0 * x)
    flow.sample(2, seed=0)
    assert asked == {"fp32" if method == "dopri5" else "bf16"}


def test_attention_is_its_formula_over_all_positions():
    layer, x = Attention(128), torch.randn(2, 128, 3, 4, generator=torch_rng(0))
    with torch.no_grad():
        layer.out.weight.copy_(torch.randn(layer.out.weight.shape, generator=torch_rng(1)) / 16)
        q, k, v = layer.qkv(layer.norm(x)).unflatten(1, (3, 2, 64)).flatten(4).unbind(1)  # (n, heads, 64, places)
        seen = (q.transpose(2, 3) @ k / 8).softmax(dim=3)
        y = (v @ seen.transpose(2, 3)).flatten(1, 2).unflatten(2, (3, 4))
        torch.testing.assert_close(layer(x, None), x + layer.out(y))


def test_the_unet_has_attention_where_it_was_asked_for_and_hears_the_time_in_thousandths():
    settings = UNetSettings(shape=(3, 16, 16), channels=(32, 32, 32, 32), blocks=1, attention=(1,), groups=8)
    flow, told = Flow(settings, precision="fp32"), []
    net = flow.net.net
    for blocks in (net.down_blocks, reversed(net.up_blocks)):
        assert [hasattr(block, "attentions") for block in blocks] == [False, True, False, False]
    net.register_forward_pre_hook(lambda _, given: told.append(given[1].tolist()))
    with torch.no_grad():
        flow.velocity(torch.zeros(2, 3, 16, 16), torch.tensor(0.25))
    assert told == [[250.0, 250.0]]
