"""Classifiers: they learn, they come back from disk as they were, and they refuse what they cannot read."""

import itertools
import json
import math

import pytest
import torch
import torch.nn.functional as F

from lib import classifier as module
from lib import paths, pretrain
from lib.checks import BadInput
from lib.classifier import Classifier, ClassifierSettings, crop_and_flip, one_cycle, train_classifier
from lib.datasets import digits, split
from lib.generators.flow import Flow
from lib.generators.networks import ConvSettings, MlpSettings
from lib.generators.training import NonFiniteLoss
from lib.parallel import threads
from lib.seeds import torch_rng

IMAGES, LABELS = digits()
TRAIN, TEST = split(len(IMAGES))
DIGITS = ClassifierSettings("digits")
NARROW = ClassifierSettings("digits", 0.25)
NARROW_VGG = ClassifierSettings("vgg11", 1 / 32)
BRIEF = {"epochs": 3, "settings": NARROW, "batch": 64, "lr": 0.1}


def trained(**options) -> Classifier:
    with threads(1):
        return train_classifier(IMAGES[TRAIN], LABELS[TRAIN], **options)


def briefly(images=None, labels=None, **options) -> Classifier:
    """Three epochs of a narrow network on 256 digits."""
    images = IMAGES[:256] if images is None else images
    return train_classifier(images, LABELS[:256] if labels is None else labels, **{"seed": 0} | BRIEF | options)


def weights(classifier: Classifier) -> torch.Tensor:
    return torch.cat([v.flatten().float() for v in classifier.net.state_dict().values()])


@pytest.fixture(scope="module")
def sharp() -> Classifier:
    return trained(seed=0, epochs=4, settings=DIGITS, batch=64, augment=False)


@pytest.fixture(scope="module")
def smoothed() -> Classifier:
    return trained(seed=0, epochs=4, settings=DIGITS, batch=64, augment=False, label_smoothing=0.2)


def test_digits_are_recognised(sharp):
    assert sharp.accuracy(IMAGES[TEST], LABELS[TEST]) > 0.98
    assert sharp.accuracy(IMAGES[TEST], (LABELS[TEST] + 1) % 10) < 0.02


def test_probabilities_are_distributions_in_the_order_of_the_images(sharp):
    q = sharp.probabilities(IMAGES[TEST], batch=100)
    assert (q.shape, q.dtype) == ((len(TEST), 10), torch.float32)
    assert float(q.min()) >= 0
    torch.testing.assert_close(q.sum(dim=1), torch.ones(len(TEST)))
    torch.testing.assert_close(sharp.probabilities(IMAGES[TEST], batch=7), q, rtol=0, atol=1e-5)
    assert sharp.probabilities(IMAGES[:0]).shape == (0, 10)


def test_label_smoothing_lowers_the_confidence(sharp, smoothed):
    confidence = [float(c.probabilities(IMAGES[TEST]).amax(dim=1).mean()) for c in (sharp, smoothed)]
    assert confidence[0] > 0.93
    assert 0.6 < confidence[1] < 1 - 0.2 + 0.2 / 10 + 0.02  # the targets ask for no more
    assert smoothed.accuracy(IMAGES[TEST], LABELS[TEST]) > 0.97


def test_features_are_what_the_head_sees(sharp):
    features = sharp.features(IMAGES[TEST])
    assert (features.shape, features.dtype) == ((len(TEST), 64), torch.float32)
    with torch.no_grad():
        q = sharp.net.head(features).softmax(dim=1)
    torch.testing.assert_close(q, sharp.probabilities(IMAGES[TEST]), rtol=0, atol=1e-5)


def test_threads_do_not_change_a_bit(sharp):
    with threads(1):
        one = sharp.probabilities(IMAGES[:300], batch=50)
    with threads(2):
        assert torch.equal(sharp.probabilities(IMAGES[:300], batch=50), one)


def test_save_and_load_bring_back_the_probabilities(sharp, tmp_path):
    path, q = tmp_path / "c.safetensors", sharp.probabilities(IMAGES[TEST])
    sharp.save(path, {"score": 0.5})
    assert torch.equal(Classifier.load(path).probabilities(IMAGES[TEST]), q)
    assert json.loads(path.with_suffix(".json").read_text())["score"] == 0.5
    size = path.stat().st_size
    sharp.save(path, {}, half=True)
    half = Classifier.load(path)
    assert half.settings == DIGITS
    assert path.stat().st_size < 0.6 * size
    assert 0 < float((half.probabilities(IMAGES[TEST]) - q).abs().max()) < 0.01


def test_load_refuses_other_weights(tmp_path):
    Flow(MlpSettings(width=8, blocks=1)).save(tmp_path / "f.safetensors", {})
    with pytest.raises(BadInput, match=r"f\.safetensors': must be a classifier's"):
        Classifier.load(tmp_path / "f.safetensors")


def test_vgg11_at_its_published_width_and_narrower():
    with torch.device("meta"):
        net = module._Network(ClassifierSettings())
        assert net.features(torch.empty(2, 3, 32, 32)).shape == (2, 512)
    convolutions = sum(p.numel() for p in net.parameters() if p.ndim == 4)
    assert convolutions == 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 3 * 512 * 512)
    narrow = Classifier(NARROW_VGG)
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch_rng(0))
    assert narrow.features(images).shape == (5, 16)
    assert narrow.probabilities(images).shape == (5, 10)


def test_small_convolution_is_a_convolution():
    ours, theirs = torch.nn.Conv2d(6, 5, 3, padding=1).double(), module._SmallConv(6, 5, 3, padding=1).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 6, 2, 3, generator=torch_rng(0), dtype=torch.float64)
    torch.testing.assert_close(theirs(x), ours(x))
    for conv in (ours, theirs):
        conv(x).square().sum().backward()
    torch.testing.assert_close(theirs.weight.grad, ours.weight.grad)
    torch.testing.assert_close(theirs.bias.grad, ours.bias.grad)


def test_the_network_normalises_by_the_training_pixels():
    net = briefly(epochs=1).net
    pixels = IMAGES[:256].float()
    assert float(net.mean) == pytest.approx(float(pixels.mean()), rel=1e-4)
    assert float(net.spread) == pytest.approx(float(pixels.std()), rel=1e-4)


def test_one_seed_gives_one_classifier_and_two_give_two():
    torch.manual_seed(1)
    first = briefly()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again, other = briefly(), briefly(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(weights(first), weights(again))
    assert not torch.allclose(weights(first), weights(other), atol=0.01)
    assert not torch.equal(first.probabilities(IMAGES[:50]), other.probabilities(IMAGES[:50]))


@pytest.mark.parametrize("options", [{}, {"shards": 2}, {"muon_lr": 0.1, "erased": 3}])
def test_interrupted_training_resumes_to_the_same_bits(tmp_path, monkeypatch, options):
    path, calls, epochs = tmp_path / "c.safetensors", itertools.count(), []
    whole = briefly(**options)

    def killed(images, rng):
        if next(calls) == 6:  # in the second of three epochs of four steps
            raise InterruptedError
        return crop_and_flip(images, rng)

    monkeypatch.setattr(module, "crop_and_flip", killed)
    with pytest.raises(InterruptedError):
        briefly(**options, checkpoint=path)
    resumed = briefly(**options, checkpoint=path, after_epoch=lambda epoch, *_: epochs.append(epoch))
    assert epochs == [2, 3]
    assert torch.equal(weights(resumed), weights(whole))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    briefly(checkpoint=tmp_path / "c.safetensors")
    with pytest.raises(BadInput, match="of this training; it differs in label_smoothing: delete it"):
        briefly(checkpoint=tmp_path / "c.safetensors", label_smoothing=0.2)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"images": IMAGES[1:257]}, "images"),
        ({"labels": LABELS[1:257]}, "labels"),
        ({"precision": "bf16"}, "precision"),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(tmp_path, other, named):
    briefly(checkpoint=tmp_path / "c.safetensors")
    with pytest.raises(BadInput, match=f"of this training; it differs in {named}: delete it"):
        briefly(**other, checkpoint=tmp_path / "c.safetensors")


def test_shards_learn_as_well():
    split_up = trained(seed=0, epochs=3, settings=DIGITS, batch=64, augment=False, shards=2)
    assert split_up.accuracy(IMAGES[TEST], LABELS[TEST]) > 0.96


def test_muon_learns_as_well_and_leaves_no_parameter_out():
    net = trained(seed=0, epochs=3, settings=DIGITS, batch=64, augment=False, muon_lr=0.1)
    assert net.accuracy(IMAGES[TEST], LABELS[TEST]) > 0.98
    (sgd, peak), (muon, muon_peak) = module._optimisers(net.net, 0.1, 0.0, 0.2)
    assert (peak, muon_peak) == (0.1, 0.2)
    kernels = [p for group in muon.param_groups for p in group["params"]]
    assert [tuple(p.shape) for p in kernels] == [(32, 32, 3, 3), (64, 32, 3, 3)]
    others = [p for group in sgd.param_groups for p in group["params"]]
    assert sorted(map(id, kernels + others)) == sorted(map(id, net.net.parameters()))


def test_cutout_greys_a_square_anywhere_on_each_image_in_all_channels():
    images = torch.full((4000, 3, 8, 8), 9, dtype=torch.uint8)
    out = module.cutout(images, 4, torch_rng(0))
    hidden = (out == module.GREY).any(dim=1)
    assert torch.equal((out == module.GREY).all(dim=1), hidden)
    assert int((out == 9).sum() + (out == module.GREY).sum()) == out.numel()
    down, across = hidden.any(dim=2), hidden.any(dim=1)
    assert torch.equal(down[:, :, None] & across[:, None, :], hidden)  # a rectangle
    for sides in (down, across):
        assert torch.equal((sides.diff(dim=1) != 0).sum(dim=1) <= 2, torch.ones(4000, dtype=bool))  # in one piece
        assert sorted(sides.sum(dim=1).unique().tolist()) == [2, 3, 4]  # cut off where it reaches beyond the edge
        assert float((sides.sum(dim=1) == 4).double().mean()) == pytest.approx(5 / 8, abs=0.03)
    places = hidden.double().mean(dim=0)  # of the middle: uniform
    assert float(places[3:5, 3:5].mean()) == pytest.approx(1 / 4, abs=0.02)
    assert float(places[[0, 0, 7, 7], [0, 7, 0, 7]].mean()) == pytest.approx(1 / 4 * (5 / 8) ** 2, abs=0.02)


@pytest.mark.parametrize("augment", [True, False])
def test_training_sees_the_images_with_their_squares(monkeypatch, augment):
    seen, forward = [], module._Network.forward
    monkeypatch.setattr(module._Network, "forward", lambda net, x: seen.append(x) or forward(net, x))
    white = torch.full((256, 1, 8, 8), 255, dtype=torch.uint8)
    briefly(white, erased=4, augment=augment)
    assert len(seen) == 12
    assert all(bool((x == module.GREY).flatten(1).any(dim=1).all()) for x in seen)
    seen.clear()
    briefly(white, augment=augment)
    assert not any(bool((x == module.GREY).any()) for x in seen)


def test_augmented_training_learns_too():
    """Crops keep an image with its label: mirrored digits are other digits, so the bar is lower here."""
    shifted = trained(seed=0, epochs=4, settings=DIGITS, batch=64)
    assert shifted.accuracy(IMAGES[TEST], LABELS[TEST]) > 0.8


def test_a_diverging_training_stops_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    monkeypatch.setattr(module, "one_cycle", lambda step, steps, peak: 0.01 if step < 4 else math.nan)
    with pytest.raises(NonFiniteLoss, match="in epoch 2"):
        briefly(checkpoint=path)
    monkeypatch.undo()
    epochs = []
    assert weights(briefly(checkpoint=path, after_epoch=lambda e, *_: epochs.append(e))).isfinite().all()
    assert epochs == [2, 3]


def test_crops_shift_by_up_to_an_eighth_and_mirror_left_to_right():
    image = IMAGES[:1].clone()
    image[0, 0, 2, 1:4] = torch.tensor([200, 100, 50], dtype=torch.uint8)  # nothing symmetric about it
    padded = F.pad(image[0, 0], (1, 1, 1, 1))
    views = [padded[i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    views += [view.flip(1) for view in views]
    out = crop_and_flip(image.expand(900, -1, -1, -1), torch_rng(0))[:, 0]
    counts = torch.tensor([int((out == view).flatten(1).all(dim=1).sum()) for view in views])
    assert int(counts.sum()) == 900
    assert int(counts.min()) > 20  # 50 of each expected
    assert 380 < int(counts[:9].sum()) < 520


def test_one_cycle_rises_a_quarter_of_the_way_and_falls_to_the_end():
    rates = [one_cycle(step, 100, 0.1) for step in range(100)]
    assert max(rates) == pytest.approx(0.1)
    assert all(a < b for a, b in itertools.pairwise(rates[:25]))
    assert all(a > b for a, b in itertools.pairwise(rates[25:]))
    assert 0 < rates[-1] < 0.002
    assert rates[0] == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"images": IMAGES[:256].float()}, "images.dtype = torch.float32: must be torch.uint8"),
        ({"images": IMAGES[:256, 0]}, "images.shape = (256, 8, 8): must be (n, 1, 8, 8)"),
        ({"images": IMAGES[:255]}, "labels.shape = (256,): must be (255,)"),
        ({"labels": LABELS[:256] + 1}, "labels = 'some outside': must be in 0..9"),
        ({"labels": LABELS[:256] - 1}, "labels = 'some outside': must be in 0..9"),
        ({"labels": LABELS[:256].float()}, "labels.dtype = torch.float32: must be torch.int64"),
        ({"epochs": 0}, "epochs = 0"),
        ({"batch": 257}, "batch = 257: must be in 1..256"),
        ({"shards": 0}, "shards = 0"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0"),
        ({"lr": 0.0}, "lr = 0.0"),
        ({"muon_lr": -0.1}, "muon_lr = -0.1: must be >= 0"),
        ({"erased": -1}, "erased = -1: must be an integer >= 0"),
        ({"erased": 1.5}, "erased = 1.5: must be an integer >= 0"),
        ({"precision": "fp16"}, "precision = 'fp16'"),
        ({"settings": ClassifierSettings("resnet")}, "kind = 'resnet'"),
        ({"settings": ClassifierSettings("digits", 0)}, "width = 0"),
    ],
)
def test_bad_training_input_is_one_line(options, says):
    with pytest.raises(BadInput) as caught:
        briefly(**options)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_bad_questions_are_one_line():
    classifier = Classifier(NARROW)
    for call in (
        lambda: classifier.probabilities(IMAGES[:2].float()),
        lambda: classifier.features(IMAGES[:2, :, :4]),
        lambda: classifier.probabilities(IMAGES[:2], batch=0),
        lambda: classifier.accuracy(IMAGES[:2], LABELS[:3]),
    ):
        with pytest.raises(BadInput) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_pretraining_leaves_weights_with_cards_and_a_score(tmp_path, monkeypatch):
    """The whole of `lib.pretrain` on noise, every size cut down."""
    noise = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8, generator=torch_rng(0))
    labels = torch.randint(0, 10, (300,), generator=torch_rng(1))
    monkeypatch.setattr(pretrain, "cifar10", lambda train: (noise, labels) if train else (noise[:60], labels[:60]))
    monkeypatch.setattr(pretrain, "ConvSettings", lambda: ConvSettings(channels=(32, 64), patch=8))
    tiny = {"width": 1 / 32, "epochs": 1}
    monkeypatch.setattr(pretrain, "CLASSIFIERS", {"reward": tiny | {"seed": 1}, "evaluator": tiny | {"seed": 2}})
    pretrain.p0(tmp_path, tmp_path, "cpu", steps=2)
    for name in ("reward", "evaluator"):
        pretrain.classifier(name, tmp_path, tmp_path, "cpu")
    pretrain.score(tmp_path, tmp_path, "cpu", n=40)
    cards = {
        name: json.loads((tmp_path / f"cifar_{name}.json").read_text()) for name in ("p0", "reward", "evaluator")
    }
    for card in cards.values():
        assert {"commit", "clean_tree", "code_sha256", "device", "packages", "training", "seconds"} <= card.keys()
    assert sum(cards["p0"]["score"]["class_shares"].values()) == pytest.approx(1)
    assert cards["p0"]["score"]["network_evaluations"] == 16
    assert cards["reward"]["training"]["seed"] == 1
    evaluator = Classifier.load(tmp_path / "cifar_evaluator.safetensors")
    assert cards["evaluator"]["test_accuracy"] == evaluator.accuracy(noise[:60], labels[:60])
    start = tmp_path / "cifar_p0.safetensors"
    started = start.read_bytes()
    pretrain.p0(tmp_path, tmp_path, "cpu", steps=2, start=start)
    assert start.read_bytes() != started
    training = json.loads(start.with_suffix(".json").read_text())["training"]
    assert training["before"]["training"]["steps"] == 2
    pretrain.p0(tmp_path, tmp_path, "cpu", steps=2, start=start)  # as many steps again, on minibatches of its own
    again = json.loads(start.with_suffix(".json").read_text())["training"]
    assert again["before"]["training"]["seed"] == training["seed"] != again["seed"]
    for card in ({"training": {"steps": 2}}, {"training": {}, "seconds": 1, "commit": "", "device": ""}):
        Flow(ConvSettings(channels=(32, 64), patch=8)).save(tmp_path / "bare.safetensors", card)
        with pytest.raises(
            BadInput, match=r"bare.*: must be weights with training, .*, device and training steps"
        ):
            pretrain.p0(tmp_path, tmp_path, "cpu", steps=2, start=tmp_path / "bare.safetensors")
    (tmp_path / "bare.safetensors").unlink()
    names = {"p0", "reward", "evaluator"}
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {
        f"cifar_{name}.safetensors" for name in names
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["p0", "--steps", "0"], "--steps = 0: must be >= 1"),
        (["p0", "--device", "gpu"], "--device = 'gpu': must be one of cpu"),
        (["p0", "--start", "nowhere"], "--start = 'nowhere': must be a file"),
        (["score", "--folder", "nowhere"], "--folder = 'nowhere': must be a folder with the weights to score"),
        (["p0", "--folder", "/dev/null"], "--folder = '/dev/null': must be a folder to write to (File exists)"),
        (["reward", "--folder", "/proc"], "--folder = '/proc': must be a folder to write to"),
        (["digits", "--work", "/dev/null/x"], "--work = '/dev/null/x': must be a folder to write to (Not a dir"),
        (["p0", "--start", str(paths.CHECKPOINTS / "digits_p0.safetensors")], "must be weights of ConvSettings("),
        (["p0", "--start", str(paths.CHECKPOINTS / "cifar_reward.safetensors")], "must be a flow's"),
        (["digits", "--steps", "5"], "--steps = 5: must be left out: digits does not read it"),
        (["digits", "--start", "x"], "--start = 'x': must be left out: digits does not read it"),
        (["digits", "--device", "cpu"], "--device = 'cpu': must be left out: digits does not read it"),
        (["reward", "--steps", "4400"], "--steps = 4400: must be left out: reward does not read it"),
        (["score", "--start", "x"], "--start = 'x': must be left out: score does not read it"),
    ],
)
def test_pretraining_refuses_in_one_line(arguments, says, monkeypatch, capsys, tmp_path):
    what, *others = arguments
    away = ["--folder", str(tmp_path), "--work", str(tmp_path)]  # from what is committed
    monkeypatch.setattr("sys.argv", ["pretrain", what, *away, *others])
    with pytest.raises(SystemExit):
        pretrain.main()
    assert says in capsys.readouterr().err.splitlines()[-1]
