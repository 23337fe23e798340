"""The image loops: small runs on digits, and both CIFAR-10 profiles on fake images."""

import dataclasses
import hashlib
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib import datasets, image_claims, image_experiments, image_figures, metrics, paths, profiles, quality
from lib.checks import BadInput
from lib.classifier import Classifier, ClassifierSettings
from lib.generators.flow import Flow
from lib.generators.networks import MlpSettings
from lib.loop import retrain

DIGITS = {
    "images.rounds": 2,
    "images.study_rounds": 1,
    "images.n_keep": 192,
    "images.n_quality": 200,
    "images.round_steps": 40,
    "images.lr": 1e-3,
    "images.label_smoothing": 0.0,
}
TINY = {
    "images.device": "cpu",
    "images.compiled": False,
    "images.channels": [32, 64],
    "images.blocks": 1,
    "images.first_steps": 2,
    "images.round_steps": 1,
    "images.batch": 4,
    "images.ode_steps": 1,
    "images.reward_width": 0.05,
    "images.reward_epochs": 1,
    "images.evaluator_width": 0.05,
    "images.evaluator_epochs": 1,
    "images.classifier_batch": 16,
    "images.rounds": 1,
    "images.n_keep": 9,
    "images.n_quality": 16,
}
TRAINED_HERE = {"images.p0_weights": "", "images.reward_weights": "", "images.evaluator_weights": ""}


@pytest.fixture(autouse=True, scope="module")
def scratch(tmp_path_factory):
    """One folder of runs for the whole file: its tests look at the same few loops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATED_LOOPS_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("TQDM_DISABLE", "1")
        yield


@pytest.fixture(scope="module")
def digits():
    return profiles.load("quick", DIGITS)


@pytest.fixture
def fake_cifar(monkeypatch, tmp_path):
    """Forty random 32x32 images in place of each part of CIFAR-10, and an empty checkpoints/."""

    def part(train: bool):
        rng = torch.Generator().manual_seed(int(train))
        images = torch.randint(0, 256, (40, 3, 32, 32), generator=rng, dtype=torch.uint8)
        return images, torch.arange(40) % 10

    monkeypatch.setattr(datasets, "cifar10", part)
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path)
    _forget()
    yield tmp_path
    _forget()


def _forget():
    image_experiments.load_images.cache_clear()
    image_experiments.studio.cache_clear()


def ends(experiment, arm, column):
    history = experiment.histories(arm)
    return history[column].iloc[0], history[column].iloc[-1]


@pytest.fixture(scope="module")
def airplane(digits):
    return image_experiments.image_experiment(digits, "airplane", [0])


def test_curation_raises_the_rewarded_class_and_the_reward(airplane):
    for column in ("share_0", "mean_reward"):
        first, curated = ends(airplane, "curated", column)
        mixed, control = ends(airplane, "mixed", column)[1], ends(airplane, "control", column)[1]
        assert curated > 2 * mixed, "real data holds it back"
        assert mixed > 1.2 * max(first, control), "without a choice it does not rise"


def test_the_loop_follows_the_exact_dynamics(airplane):
    measured, exact = airplane.histories("curated")["share_0"], airplane.exact["curated"]["share_0"]
    # 192 choices a round scatter the second round's share by about 0.05, and 40 steps a round lag by as much
    assert measured.to_numpy() == pytest.approx(exact.to_numpy(), abs=0.2)
    assert airplane.exact["control"]["share_0"].nunique() == 1


def test_the_history_has_both_counts_and_the_quality_columns(airplane, digits):
    history = airplane.histories("curated")
    wanted = {"share_0", "fitted_share_0", "confidence_evaluator", *image_experiments.QUALITY}
    assert wanted <= set(history)
    assert "fid" not in history, "digits have no FID"
    floor = image_experiments.studio(digits.images).floor
    assert floor["frechet_distance_evaluator"] < history["frechet_distance_evaluator"].iloc[-1]


def test_one_control_serves_both_rewards(airplane, digits):
    confidence = image_experiments.image_experiment(digits, "confidence", [0], arms=("control",))
    assert len(list(paths.runs().glob("digits-control-*"))) == 1
    ours, theirs = (e.histories("control") for e in (airplane, confidence))
    assert ours["share_0"].equals(theirs["share_0"])
    assert 0 < ours["mean_reward"].iloc[0] < 5 < theirs["mean_reward"].iloc[0] <= 15


def test_claims_and_figures_take_what_the_experiment_gives(airplane, digits):
    claims = image_claims.airplane_claims(airplane, 0, 5.0, 192)
    claims += image_claims.bias_claims(airplane, "fitted", 15.0, 192)
    claims += image_claims.quality_claims(airplane)
    assert {type(c.holds) for c in claims} == {bool}
    names = image_experiments.class_names(digits.images)
    panels = {arm: (airplane.histories(arm), airplane.exact[arm]) for arm in airplane.runs}
    assert len(image_figures.class_shares(panels, names, "x").axes) == 3
    pictures, table = image_experiments.stored_images(airplane, [0, 2])
    assert len(table) == 3 * 2 * 36
    assert len(image_figures.image_grids(pictures, [0, 2], "x").axes) == 6


def test_stored_images_are_the_runs_own_round_by_round(airplane):
    pictures, table = image_experiments.stored_images(airplane, [0, 2], n=40)
    for arm, (run,) in airplane.runs.items():
        for i, t in enumerate((0, 2)):
            assert np.array_equal(pictures[arm][i], run.samples(t)[:40].numpy())
            rows, (reward, label) = table[(table["arm"] == arm) & (table["round"] == t)], run.pool(t)
            assert rows["class"].tolist() == label[:40].tolist()
            assert rows["reward"].to_numpy() == pytest.approx(reward[:40].numpy(), abs=1e-4)


def test_quality_compares_with_training_images_and_the_evaluator_is_a_network_of_its_own(digits):
    parts = image_experiments.studio(digits.images)
    same = parts.quality(parts.data.train)
    assert same["frechet_distance_evaluator"] == pytest.approx(0, abs=1e-6)
    assert (same["precision"], same["recall"]) == (1, 1)
    evaluator, reward = parts.evaluator.weights.state, parts.judges["fitted"].weights.state
    assert [tuple(x.shape) for x in evaluator.values()] == [tuple(x.shape) for x in reward.values()]
    assert not torch.equal(evaluator["head.weight"], reward["head.weight"])


def test_each_classifier_is_trained_as_the_profile_says(digits, monkeypatch):
    asked = []

    def train(images, labels, *, settings, device, **options):
        asked.append(options)
        return Classifier(settings)

    monkeypatch.setattr(image_experiments, "train_classifier", train)
    changes = {"label_smoothing": 0.1, "smoothed_epochs": 3, "classifier_batch": 50}
    data, images = image_experiments.load_images("digits"), digits.images.model_copy(update=changes)
    monkeypatch.setenv("CURATED_LOOPS_RUNS", str(paths.runs() / "elsewhere"))
    for name in ("fitted", "smoothed", "evaluator"):
        image_experiments._judge(images, data, name)
    assert [options["label_smoothing"] for options in asked] == [0.0, 0.1, 0.0]
    assert [options["epochs"] for options in asked] == [images.reward_epochs, 3, images.evaluator_epochs]
    assert {options["batch"] for options in asked} == {50}
    assert len({options["seed"] for options in asked}) == 3
    assert not any(options["augment"] for options in asked), "a mirrored digit is no digit"


@pytest.mark.parametrize(
    ("arm", "k", "lam"), [("curated", 8, math.inf), ("mixed", 8, 0.25), ("control", 1, math.inf)]
)
def test_settings_reach_the_loop(digits, arm, k, lam):
    changes = {"k": 8, "lam": 0.25, "menus": "resample", "start": "cold", "n_keep": 50}
    images = digits.images.model_copy(update=changes)
    task = image_experiments.image_task(image_experiments.studio(digits.images), "airplane")
    config = image_experiments.image_config(task, images, arm, 3, 2)
    assert (config.k, config.lam, config.menus, config.start) == (k, lam, "resample", "cold")
    assert (config.n_keep, config.n_pool, config.seed, config.rounds) == (50, 400, 3, 2)


def test_runs_of_several_seeds_are_compared(digits):
    arms = ("curated", "control")
    both = image_experiments.image_experiment(digits, "confidence", [0, 1], arms=arms)
    single = [image_experiments.image_experiment(digits, "confidence", [s], arms=arms) for s in (0, 1)]
    exact = np.mean([one.exact["curated"]["share_3"] for one in single], axis=0)
    assert both.exact["curated"]["share_3"].to_numpy() == pytest.approx(exact, abs=1e-12)
    assert both.histories("curated").groupby("seed")["loss"].last().nunique() == 2
    perfect = both.finite["curated"]  # told from the same exact curve as the loops
    expected = image_experiments.tv_to_exact(perfect, both.exact["curated"])
    assert perfect["tv_to_exact"].to_numpy() == pytest.approx(expected, nan_ok=True)
    claims = image_claims.repeat_claims(both, 15.0, 192)
    assert {type(c.holds) for c in claims} == {bool}
    alone = image_claims.repeat_claims(single[0], 15.0, 192)
    assert [c.source for c in alone] == ["CIFAR-10, confidence", "ours"]  # one run agrees with nothing
    assert [c.source for c in claims] == ["CIFAR-10, repeats"] * 2 + ["CIFAR-10, confidence", "ours"]


def test_the_study_changes_what_it_says(digits):
    changes = {f"K = {k}, {m}": {"k": k, "menus": m} for m in ("disjoint", "resample") for k in (2, 8)}
    study = image_experiments.image_study(digits, "airplane", 0, changes)
    for name, one in study.items():
        config = one.runs["curated"][0].config
        assert name == f"K = {config.k}, {config.menus}"
        assert (config.rounds, config.n_pool) == (1, config.k * 192)
    assert all(type(claim.holds) is bool for claim in image_claims.study_claims(study, 0, 256))


def fake_run(k, lam, reward, label, rounds):
    return SimpleNamespace(config=SimpleNamespace(k=k, lam=lam, rounds=rounds), pool=lambda t: (reward, label))


def test_exact_dynamics_at_infinite_k_is_the_tilt():
    reward, label = torch.linspace(0, 3, 30), torch.arange(30) % 10
    task = SimpleNamespace(groups=10)
    found = image_experiments.exact_history(fake_run(math.inf, math.inf, reward, label, 3), task)
    for t in range(4):
        weight = np.exp(t * reward.double().numpy())
        expected = np.bincount(label, weight, 10) / weight.sum()
        assert found[[f"share_{i}" for i in range(10)]].loc[t].to_numpy() == pytest.approx(expected, abs=1e-12)


def test_exact_dynamics_mixes_in_real_images_by_lambda():
    real = SimpleNamespace(
        groups=2,
        real=torch.zeros(8, 1),
        reward=lambda x: torch.full((len(x),), 7.0),
        label=lambda x: torch.zeros(len(x), dtype=torch.long),
    )
    pool = torch.full((10,), 7.0), torch.ones(10, dtype=torch.long)  # equal rewards: choice changes nothing
    found = image_experiments.exact_history(fake_run(4, 0.5, *pool, 2), real)
    assert found["share_0"].to_numpy() == pytest.approx([0, 2 / 3, 2 / 3 + (2 / 3) / 3], abs=1e-12)
    # without real images K = 1 would stand still
    blind = image_experiments.exact_history(fake_run(1, 0.5, *pool, 2), real)
    assert blind["share_0"].to_numpy() == pytest.approx(found["share_0"].to_numpy(), abs=1e-12)
    assert blind["unchosen_entropy"].to_numpy() == pytest.approx(found["entropy"].to_numpy(), abs=1e-12)


@pytest.mark.parametrize(("k", "lam"), [(4, math.inf), (4, 0.5), (1, math.inf)])
def test_a_perfect_model_on_many_samples_follows_the_exact_dynamics(k, lam):
    rng = np.random.default_rng(0)
    reward, label = torch.from_numpy(rng.normal(size=300)), torch.from_numpy(rng.integers(0, 3, 300))
    task = SimpleNamespace(
        groups=3, real=torch.zeros(9, 1), reward=lambda x: torch.ones(9), label=lambda x: label[:9]
    )
    run = fake_run(k, lam, reward if k > 1 else torch.zeros(300), label, 3)
    shares = [f"share_{i}" for i in range(3)]
    first = pd.DataFrame([{c: float((label == i).double().mean()) for i, c in enumerate(shares)}])
    run.history, run.config.n_keep, run.config.n_pool, run.config.seed = first, 10**6, 400, 5
    run.config.menus = "disjoint"
    exact = image_experiments.exact_history(run, task)
    if math.isfinite(lam):
        # without choice: a share of (lam / (1 + lam))^t is still that of p_0, the rest scores 1
        left = (lam / (1 + lam)) ** np.arange(4)
        expected = left * float(reward.mean()) + 1 - left
        assert exact["unchosen_mean_reward"].to_numpy() == pytest.approx(expected, abs=1e-12)
    exact = exact[shares]
    found = image_experiments.finite_histories(run, task, repeats=200)
    assert (found[shares] * 400).to_numpy() == pytest.approx((found[shares] * 400).round().to_numpy(), abs=1e-9)
    assert found.groupby("round")[shares].mean().to_numpy() == pytest.approx(exact.to_numpy(), abs=0.01)
    if math.isfinite(lam):
        return
    run.config.menus = "resample"  # the pool's 400 samples are all that its menus show
    pooled = image_experiments.finite_histories(run, task, repeats=200)
    spread = [table.query("round == 1")[shares].var().sum() for table in (found, pooled)]
    assert spread[1] > 1.2 * spread[0]


@pytest.mark.parametrize(
    ("name", "changes", "network"),
    [("cifar", {}, "ConvUNet"), ("paper", {"images.channels": [64, 64], "images.method": "midpoint"}, "UNet")],
)
def test_cifar_profiles_run_on_fake_images(fake_cifar, monkeypatch, name, changes, network):
    monkeypatch.setattr(quality, "INCEPTION", fake_cifar / "inception.pt")
    quality.INCEPTION.write_bytes(b"a network")
    monkeypatch.setattr(quality, "inception_features", lambda x, device: x.float().mean(dim=(2, 3)))
    profile = profiles.load(name, TINY | TRAINED_HERE | changes)
    parts = image_experiments.studio(profile.images)
    assert set(parts.judges) == {"fitted"}
    assert set(parts.cards()["origin"]) == {"trained here"}
    task = image_experiments.image_task(parts, "confidence")
    run = retrain(image_experiments.image_config(task, profile.images, "mixed", 0, 1))
    assert type(task.generator(0).net).__name__ == network
    assert run.samples(1).shape == (36, 3, 32, 32)
    assert run.history["fid"].notna().all()
    assert task.inputs["Inception"] == hashlib.sha256(b"a network").hexdigest()
    assert run.provenance["network_evaluations"] == task.generator(0).evaluations
    monkeypatch.setattr(quality, "INCEPTION", fake_cifar / "gone.pt")
    image_experiments.studio.cache_clear()
    without = image_experiments.image_task(image_experiments.studio(profile.images), "confidence")
    assert without.settings != task.settings, "rounds with and without FID do not mix"


def test_paper_profile_samples_by_the_adaptive_solver():
    settings = profiles.load("paper", TINY | {"images.channels": [64]}).images
    flow = image_experiments.new_flow(settings, (3, 32, 32), 0)
    assert flow.method == "dopri5"
    assert flow.sample(1, seed=0).shape == (1, 3, 32, 32)


def test_paper_profile_has_the_published_sizes():
    images = profiles.load("paper").images
    shape = (3, 32, 32)
    flow = Flow(image_experiments.network(images, shape))
    assert sum(p.numel() for p in flow.net.parameters()) == pytest.approx(35.7e6, rel=0.01)
    assert (images.batch, images.lr, images.ema_decay, images.rounds) == (128, 2e-4, 0.9999, 10)
    assert images.n_keep * images.k == 50_000
    assert (images.airplane_gamma, images.confidence_gamma, images.lam) == (5, 15, 0.5)


def test_weights_in_checkpoints_are_used(fake_cifar):
    flow = image_experiments.new_flow(profiles.load("cifar", TINY | TRAINED_HERE).images, (3, 32, 32), 7)
    flow.save(fake_cifar / "cifar_p0.safetensors", {})
    reward = Classifier(ClassifierSettings("vgg11", 0.05), seed=5)
    reward.save(fake_cifar / "cifar_reward.safetensors", {"test_accuracy": 0.5})
    settings = profiles.load("cifar", TINY | {"images.evaluator_weights": ""}).images
    parts = image_experiments.studio(settings)
    cards = parts.cards()["origin"].to_dict()
    assert cards["reward (fitted)"] == "cifar_reward.safetensors"
    assert cards["p_0"] == "cifar_p0.safetensors"
    assert cards["evaluator"] == "trained here"
    assert all(torch.equal(value, flow.state_dict()[key]) for key, value in parts.p0.state.items())
    assert json.dumps(image_experiments.image_task(parts, "airplane").settings)


def test_a_p0_of_another_network_is_refused(fake_cifar):
    Flow(MlpSettings((3, 32, 32), 16, 1)).save(fake_cifar / "cifar_p0.safetensors", {})
    settings = profiles.load("cifar", TINY | TRAINED_HERE | {"images.p0_weights": "cifar_p0"}).images
    with pytest.raises(BadInput, match=r"images\.p0_weights = 'cifar_p0'"):
        image_experiments.studio(settings)


def test_a_classifier_of_another_size_is_refused(fake_cifar):
    Classifier(ClassifierSettings("vgg11", 0.1)).save(fake_cifar / "other.safetensors", {})
    settings = profiles.load("cifar", TINY | TRAINED_HERE | {"images.reward_weights": "other"}).images
    with pytest.raises(BadInput, match=r"images\.reward_weights = 'other': .* width=0\.1.*width=0\.05"):
        image_experiments.studio(settings)


def test_quality_asks_for_no_more_real_images_than_there_are():
    settings = profiles.load("quick", DIGITS | {"images.n_keep": 1000, "images.n_quality": 3000}).images
    with pytest.raises(BadInput, match=r"images\.n_quality = 3000: must be <= 1348"):
        image_experiments.studio(settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("images.network", "vgg"),
        ("images.channels", []),
        ("images.channels", [0]),
        ("images.label_smoothing", 1.0),
        ("images.k", 1),
        ("images.n_quality", 3),
        ("images.data", "mnist"),
    ],
)
def test_a_profile_value_out_of_range_is_one_line(key, value):
    with pytest.raises(BadInput) as error:
        profiles.load("quick", {key: value})
    assert key in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_reward_judge_and_mlp_channels_are_refused(digits):
    with pytest.raises(BadInput, match="reward = 'beauty'"):
        image_experiments.image_experiment(digits, "beauty", [0])
    with pytest.raises(BadInput, match="judge = 'smoothed'"):
        image_experiments.image_experiment(digits, "airplane", [0], judge="smoothed")
    two = profiles.load("quick", {"images.channels": [8, 8]}).images
    with pytest.raises(BadInput, match=r"images\.channels"):
        image_experiments.network(two, (1, 8, 8))


def test_keys_of_the_images_section_all_have_a_reader():
    files = [paths.PROJECT / "lib" / "image_experiments.py", *paths.NOTEBOOKS.glob("0[4-7]_*.py")]
    source = "".join(path.read_text() for path in files)
    for field, values in {"role": ("reward", "evaluator"), "reward": image_experiments.REWARDS}.items():
        source += "".join(source.replace(f'f"{{{field}}}_', f'"{value}_') for value in values)
    keys = profiles.load("quick").images.model_dump()
    assert [k for k in keys if not re.search(rf'(settings|images|\bs)\.{k}\b|"{k}"', source)] == []


def test_titles_follow_the_profile():
    assert image_experiments.source(profiles.load("quick").images) == "8x8 digits standing in for CIFAR-10"
    assert image_experiments.source(profiles.load("cifar").images) == "CIFAR-10"
    assert image_experiments.class_names(profiles.load("paper").images)[0] == "airplane"


def test_reward_and_evaluator_each_answer_their_own_question():
    changes = {"images.label_smoothing": 0.1, "images.smoothed_epochs": 1, "images.rounds": 1, "images.n_keep": 64}
    profile = profiles.load("quick", DIGITS | changes)
    parts, arms = image_experiments.studio(profile.images), ("curated", "control")
    found = image_experiments.image_experiment(profile, "confidence", [0], arms=arms, judge="smoothed")
    run, row = found.runs["curated"][0], found.histories("curated").iloc[0]
    fitted, smoothed, evaluator = (
        judge.classifier.probabilities(run.samples(0))
        for judge in (parts.judges["fitted"], parts.judges["smoothed"], parts.evaluator)
    )
    assert torch.equal(run.pool(0)[0], 15 * smoothed.amax(1))
    assert torch.equal(run.pool(0)[1], evaluator.argmax(1))
    assert row["mean_reward"] == pytest.approx(15 * smoothed.amax(1).mean().item())
    assert row["confidence_evaluator"] == pytest.approx(evaluator.amax(1).mean().item())
    for name, q in (("fitted", fitted), ("smoothed", smoothed)):
        share = metrics.shares(q.argmax(1).numpy(), 10)
        assert row[[f"{name}_share_{i}" for i in range(10)]].tolist() == pytest.approx(share.tolist())
    assert (found.exact["control"]["mean_reward"] == found.histories("control")["mean_reward"][0]).all()
    assert parts.floor == parts.quality(parts.data.test)
    test = parts.data.test, parts.data.test_labels
    assert parts.cards()["accuracy"]["reward (smoothed)"] == parts.judges["smoothed"].classifier.accuracy(*test)


OTHER = {
    "round_steps": 7,
    "lr": 1e-4,
    "batch": 32,
    "ema_decay": 0.5,
    "flip": True,
    "shards": 2,
    "method": "heun",
    "ode_steps": 5,
    "n_quality": 50,
    "airplane_gamma": 1.0,
    "confidence_gamma": 1.0,
    "blocks": 2,
}


@pytest.mark.parametrize("key", OTHER)
def test_every_image_setting_tells_a_run_from_another(digits, key):
    parts = image_experiments.studio(digits.images)
    other = dataclasses.replace(parts, settings=digits.images.model_copy(update={key: OTHER[key]}))
    one, two = (image_experiments.image_task(p, "airplane").settings for p in (parts, other))
    assert one != two


def test_the_profile_reaches_the_flow_and_its_fits(fake_cifar, monkeypatch):
    fits = []
    monkeypatch.setattr(Flow, "fit", lambda flow, data, **options: fits.append(options) or [])
    s = profiles.load(
        "cifar", TINY | TRAINED_HERE | {"images.first_steps": 3, "images.checkpoint_every": 7}
    ).images
    task = image_experiments.image_task(image_experiments.studio(s), "airplane")
    flow = task.generator(0)
    assert (flow.flip, flow.ot, flow.method, flow.ode_steps) == (s.flip, True, s.method, s.ode_steps)
    same = {"batch": s.batch, "ema_decay": s.ema_decay, "shards": s.shards}
    assert task.fit_round == same | {"steps": s.round_steps, "lr": s.lr}
    first = {"steps": s.first_steps, "lr": s.first_lr, "decay": s.first_decay, "warmup": s.warmup}
    first |= {"checkpoint_every": s.checkpoint_every}
    assert first | same == {key: value for key, value in fits[0].items() if key not in ("seed", "checkpoint")}


def test_drift_tells_choice_from_chance_and_model_error(airplane):
    def change(table, column):
        return table[column].iloc[-1] - table[column].iloc[0]

    exact, found = airplane.exact["curated"], image_experiments.drift(airplane, "share_0")
    ends = airplane.finite["curated"].query("round == round.max()")["share_0"] - exact["share_0"].iloc[0]
    tables = exact, airplane.histories("control"), airplane.histories("curated")
    whole, alone, both = (change(table, "share_0") for table in tables)
    assert found.tolist() == pytest.approx([whole, ends.min(), ends.max(), alone, both])
    assert 0 < ends.min() < whole < ends.max()

    exact, found = airplane.exact["mixed"], image_experiments.drift(airplane, "mean_reward", "mixed")
    tables = (exact, "mean_reward"), (exact, "unchosen_mean_reward"), (airplane.histories("mixed"), "mean_reward")
    changes = [change(*one) for one in tables]
    assert found.drop([name for name in found.index if "finite" in name]).tolist() == pytest.approx(changes)
    assert changes[1] < changes[0]  # what real images bring, and what choice adds to it


def test_a_perfect_model_without_choice_has_a_history_of_classes_alone(airplane):
    table = airplane.finite["control"]
    assert not [c for c in table if "reward" in c]
    assert {"entropy", "live_groups", "tv_to_exact", "share_9"} <= set(table)
    start, end = (table.query(f"round == {t}")["tv_to_exact"].mean() for t in (0, 2))
    assert start < end  # nothing is chosen, and the shares wander all the same


def test_quality_compares_the_first_images_with_as_many_training_images(digits, monkeypatch):
    parts, asked = dataclasses.replace(image_experiments.studio(digits.images)), []  # nothing of it is cached yet
    monkeypatch.setattr(quality, "columns", lambda *both: asked.extend(both) or {})
    monkeypatch.setattr(image_experiments.Studio, "inception", "there")
    monkeypatch.setattr(quality, "inception_features", lambda images, device: images.flatten(1).float())
    found, n = parts.quality(parts.data.test), digits.images.n_quality
    first = [images[:n] for images in (parts.data.test, parts.data.train)]
    assert len(first[0]) == n < len(parts.data.test)
    for features, images in zip(asked, first, strict=True):
        assert torch.equal(features, parts.evaluator.classifier.features(images))
    assert found == {"fid": quality.frechet_distance(*(images.flatten(1).float() for images in first))}


def test_what_learns_sees_training_images_alone(fake_cifar, monkeypatch):
    taught, options = [], []

    def train(images, labels, *, settings, device, **others):
        taught.append((images, labels))
        options.append(others)
        return Classifier(settings)

    monkeypatch.setenv("CURATED_LOOPS_RUNS", str(fake_cifar / "runs"))
    monkeypatch.setattr(image_experiments, "train_classifier", train)
    monkeypatch.setattr(Flow, "fit", lambda flow, data, **_: taught.append((data, None)) or [])
    parts = image_experiments.studio(profiles.load("cifar", TINY | TRAINED_HERE).images)
    real, labels = parts.data.train, parts.data.train_labels
    assert [images is real for images, _ in taught] == [True] * 3
    assert [known is labels for _, known in taught] == [True, True, False]
    assert all(others["augment"] for others in options), "photographs may be mirrored"
    assert image_experiments.image_task(parts, "airplane").real is real


def test_every_network_tells_a_run_from_another(digits):
    parts = image_experiments.studio(digits.images)
    weights = dataclasses.replace(parts.p0, identity={"file": "another"})
    judge = image_experiments.Judge(parts.evaluator.classifier, weights)
    changes = [{"evaluator": judge}, {"p0": weights}, {"judges": {"fitted": judge}}]
    others = [dataclasses.replace(parts, **change) for change in changes]
    found = [image_experiments.image_task(p, "airplane").settings for p in (parts, *others)]
    both = dataclasses.replace(parts, judges=parts.judges | {"smoothed": judge})
    found += [image_experiments.image_task(both, "airplane", name).settings for name in both.judges]
    assert len({json.dumps(settings) for settings in found}) == 6


LEARNT = {"flip": True, "first_steps": 7, "first_lr": 1e-4, "first_decay": "cosine", "warmup": 3, "ema_decay": 0.5,
          "batch": 32, "shards": 2, "blocks": 1, "channels": (8,)}  # fmt: skip


def test_whatever_decides_weights_tells_them_from_others(digits, monkeypatch, tmp_path):
    monkeypatch.setattr(Flow, "fit", lambda *_, **__: [])
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path)
    monkeypatch.setenv("CURATED_LOOPS_RUNS", str(tmp_path / "runs"))
    here = digits.images.model_copy(update={"p0_weights": ""})
    trained = [here, *(here.model_copy(update={key: value}) for key, value in LEARNT.items())]
    found = [image_experiments.prepare(settings, "p0").identity for settings in trained]
    for seed in (0, 1):  # two files of one name
        Flow(MlpSettings(), seed=seed).save(tmp_path / "digits_p0.safetensors", {})
        found.append(image_experiments.prepare(digits.images, "p0").identity)
    assert len({json.dumps(identity) for identity in found}) == len(LEARNT) + 3


@pytest.mark.parametrize("arm", ["curated", "mixed", "control"])
def test_every_moment_of_an_arm_is_of_the_reward_it_is_compared_under(airplane, arm):
    history = airplane.histories(arm)
    for moment in ("mean_reward", "mean_exp_reward", "var_exp_reward"):
        assert history[moment].tolist() == history[f"airplane_fitted_{moment}"].tolist()


def test_each_seeds_perfect_model_has_draws_of_its_own():
    run, found = fake_run(4, math.inf, torch.zeros(50), torch.arange(50) % 2, 2), []
    vars(run.config).update(n_keep=20, n_pool=80, menus="disjoint")
    for run.config.seed in (0, 1):
        found.append(image_experiments.finite_histories(run, SimpleNamespace(groups=2), repeats=3)["share_0"])
    assert not found[0].equals(found[1])
