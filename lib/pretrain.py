"""Train the weights in `checkpoints/`, each with its card.

python -m lib.pretrain p0 | reward | evaluator     CIFAR-10: train, or go on with an unfinished training
python -m lib.pretrain digits                      p_0 of the 8x8 digits
python -m lib.pretrain score                       add to p_0's card what the evaluator says of it
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lib import paths, quality, runs, sealed
from lib.checks import BadInput, require
from lib.classifier import Classifier, ClassifierSettings, train_classifier
from lib.datasets import CIFAR10_CLASSES, cifar10, digits, split
from lib.generators.flow import Flow
from lib.generators.networks import ConvSettings, MlpSettings
from lib.seeds import derive
from lib.weights import load_weights

READS = {  # options of the command line
    "p0": ("folder", "work", "device", "steps", "start"),
    "reward": ("folder", "work", "device"),
    "evaluator": ("folder", "work", "device"),
    "digits": ("folder", "work"),
    "score": ("folder", "work", "device"),
}
TOLD = ("training", "seconds", "commit", "device")  # of the weights from which a training went on
CLASSIFIERS = {
    "reward": {
        "width": 1.0, "seed": 1, "epochs": 150, "erased": 12, "batch": 512, "lr": 0.15, "muon_lr": 0.12,
        "weight_decay": 5e-4, "label_smoothing": 0.0,
    },
    "evaluator": {
        "width": 0.5, "seed": 2, "epochs": 16, "batch": 256, "lr": 0.1, "weight_decay": 5e-4,
        "label_smoothing": 0.0,
    },
}  # fmt: skip


def provenance(device: str | torch.device) -> dict:
    """`lib.runs.provenance` for a card, with the name of the device that was used."""
    cuda = torch.device(device).type == "cuda"
    return runs.provenance() | {"device": torch.cuda.get_device_name(device) if cuda else runs.processor()}


def shards(device: str | torch.device) -> int:
    """Parts of a minibatch side by side: one for each of two CPU cores; a GPU takes it whole."""
    return 2 if torch.device(device).type == "cpu" else 1


def p0(
    folder: Path, work: Path, device: str, *, seed: int = 0, steps: int = 4400, start: Path | None = None
) -> None:
    """OT-CFM on the 50,000 training images, weights to `folder`/cifar_p0.safetensors.

    Args:
        folder: where the weights and their card go.
        work: where the checkpoint of an unfinished training lies.
        device: where to train.
        seed: of weights, minibatches and noise.
        steps: optimiser steps.
        start: trained weights with a card to go on from, with a fresh optimiser and minibatches of its own; a new
            network by default.

    Raises:
        BadInput: `start` holds another network, or its card lacks what goes into the new one.
    """
    flow = Flow(ConvSettings(), seed=seed, device=device, flip=True)
    before, checkpoint = {}, work / "p0.safetensors"
    if start:
        sha256 = sealed.file_sha256(start)
        checkpoint = work / f"p0-from-{sha256[:8]}.safetensors"
        other, card = Flow.load(start), load_weights(start)[1]
        require(other.settings == flow.settings, "--start", str(start), f"weights of {flow.settings}")
        told = set(TOLD) <= set(card) and "steps" in card["training"]
        require(told, "--start", str(start), f"weights with {', '.join(TOLD)} and training steps on their card")
        flow.load_state_dict(other.state_dict())
        before = {"before": {key: card[key] for key in TOLD}}
        seed = derive(seed, f"continued from {sha256}", index=card["training"]["steps"])
    # The weights in checkpoints/ had 4,600 steps of Adam first: Frechet distance 42.0 on the evaluator's features;
    # 1,300 of these steps took it to 37.6, and 2,500 more to 30.1 (times and commits are on the card).
    options = {
        "batch": 128, "lr": 1e-3, "muon_lr": 2e-3, "warmup": 200, "decay": "linear", "ema_decay": 0.999,
        "shards": shards(device),
    }  # fmt: skip
    images, _ = cifar10(train=True)
    started = time.perf_counter()
    losses = flow.fit(images, steps, seed=seed, checkpoint=checkpoint, checkpoint_every=100, **options)
    a_step = (time.perf_counter() - started) / len(losses)
    card = {
        "data": "CIFAR-10, 50000 training images",
        "training": {"steps": steps, "seed": seed, **options} | before,
        "loss": sum(losses[-500:]) / len(losses[-500:]),
        "seconds": round(a_step * steps),
        "precision": flow.precision,
        **provenance(device),
    }
    flow.save(folder / "cifar_p0.safetensors", card, half=True)
    checkpoint.unlink(missing_ok=True)


def digits_p0(folder: Path, work: Path, *, seed: int = 0, steps: int = 12000) -> None:
    """OT-CFM on the training part of the 8x8 digits, weights to `folder`/digits_p0.safetensors.

    Args:
        folder: where the weights and their card go.
        work: where the checkpoint of an unfinished training lies.
        seed: of weights, minibatches and noise.
        steps: optimiser steps.
    """
    flow = Flow(MlpSettings(), seed=seed)
    options = {"batch": 256, "lr": 1e-3, "decay": "linear", "ema_decay": 0.999}
    images, _ = digits()
    images = images[split(len(images))[0]]
    checkpoint = work / "digits_p0.safetensors"
    losses = flow.fit(images, steps, seed=seed, checkpoint=checkpoint, **options)
    card = {
        "data": f"scikit-learn's 8x8 digits, {len(images)} training images",
        "training": {"steps": steps, "seed": seed, **options},
        "loss": sum(losses[-500:]) / len(losses[-500:]),
        "precision": flow.precision,
        **provenance("cpu"),
    }
    flow.save(folder / "digits_p0.safetensors", card)
    checkpoint.unlink(missing_ok=True)


def classifier(name: str, folder: Path, work: Path, device: str) -> None:
    """VGG11-bn on the 50,000 training images, weights to `folder`/cifar_<name>.safetensors.

    The accuracy on the card is that of the stored (half precision) weights on the 10,000 test images, which
    nothing else here sees.

    Args:
        name: "reward" or "evaluator".
        folder: where the weights and their card go.
        work: where the checkpoint of an unfinished training lies.
        device: where to train.
    """
    options = CLASSIFIERS[name] | {"shards": shards(device)}
    settings = ClassifierSettings("vgg11", options.pop("width"))
    images, labels = cifar10(train=True)
    marks = [time.perf_counter()]

    def log(epoch: int, loss: float, _: Classifier) -> None:
        marks.append(time.perf_counter())
        print(f"{name} epoch {epoch}: loss {loss:.4f}, {marks[-1] - marks[-2]:.0f} s", flush=True)

    # on a GPU an epoch takes no longer than writing what a kill would lose
    checkpoint = work / f"{name}.safetensors" if device == "cpu" else None
    trained = train_classifier(
        images, labels, settings=settings, device=device, checkpoint=checkpoint, after_epoch=log, **options
    )
    card = {
        "data": "CIFAR-10, 50000 training images",
        "training": options,
        "seconds": round((marks[-1] - marks[0]) / (len(marks) - 1) * options["epochs"]),
        "precision": trained.precision,
        **provenance(device),
    }
    path = folder / f"cifar_{name}.safetensors"
    trained.save(path, card, half=True)
    card["test_accuracy"] = Classifier.load(path, device=device).accuracy(*cifar10(train=False))
    trained.save(path, card, half=True)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    print(f"{name}: test accuracy {card['test_accuracy']:.4f}", flush=True)


def score(folder: Path, work: Path, device: str, *, n: int = 5000, seed: int = 0) -> None:
    """Add to p_0's card what the evaluator says of n samples; the samples go to `work`.

    Args:
        folder: where the weights and their cards are.
        work: gets p0_samples.npy, uint8 (n, 3, 32, 32).
        device: where to compute.
        n: samples, and real images on each side of the real-versus-real distance.
        seed: of the noise.
    """
    path = folder / "cifar_p0.safetensors"
    flow = Flow.load(path, device=device)
    judge = Classifier.load(folder / "cifar_evaluator.safetensors", device=device)
    samples = flow.sample(n, seed=seed)
    np.save(work / "p0_samples.npy", samples.numpy())
    real, _ = cifar10(train=True)
    test, _ = cifar10(train=False)
    features = [judge.features(x) for x in (samples, real[:n], test[:n])]
    classes = judge.probabilities(samples).argmax(dim=1).bincount(minlength=len(CIFAR10_CLASSES)) / n
    card = load_weights(path)[1]
    card["score"] = {
        "samples": n,
        "seed": seed,
        "network_evaluations": flow.evaluations,
        "class_shares": dict(zip(CIFAR10_CLASSES, classes.tolist(), strict=True)),
        "confidence": float(judge.probabilities(samples).amax(dim=1).mean()),
        "confidence_of_test_images": float(judge.probabilities(test).amax(dim=1).mean()),
        "frechet_evaluator_features": quality.frechet_distance(features[0], features[1]),
        "frechet_test_versus_train": quality.frechet_distance(features[2], features[1]),
    }
    sealed.write_text(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    print(json.dumps(card["score"], indent=2))


def main() -> None:
    """The command line."""
    parser = _parser()
    given = vars(parser.parse_args())
    try:
        _require_read(given)
        _make(argparse.Namespace(**_defaults() | given))
    except BadInput as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    """Gives what stands on the command line alone: `_defaults` are filled in later."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("what", choices=READS)
    parser.add_argument("--folder", type=Path, help="where weights and cards go")
    parser.add_argument("--work", type=Path, help="where unfinished training lies")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--steps", type=int, help="optimiser steps of p0")
    parser.add_argument("--start", type=Path, help="weights from which p0 goes on")
    return parser


def _defaults() -> dict:
    return {"folder": paths.CHECKPOINTS, "work": paths.runs(), "device": "cpu", "steps": 4400, "start": None}


def _require_read(given: dict) -> None:
    """What a target does not read is refused, not ignored."""
    what = given["what"]
    for name, value in given.items():
        shown = str(value) if isinstance(value, Path) else value
        require(name in ("what", *READS[what]), f"--{name}", shown, f"left out: {what} does not read it")


def _make(asked: argparse.Namespace) -> None:
    require(asked.steps >= 1, "--steps", asked.steps, ">= 1")
    usable = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    require(asked.device in usable, "--device", asked.device, f"one of {', '.join(usable)} here")
    require(asked.start is None or asked.start.is_file(), "--start", str(asked.start), "a file")
    there = asked.what != "score" or asked.folder.is_dir()
    require(there, "--folder", str(asked.folder), "a folder with the weights to score")
    _require_folder("--folder", asked.folder)
    _require_folder("--work", asked.work)
    if asked.what in CLASSIFIERS:
        classifier(asked.what, asked.folder, asked.work, asked.device)
    elif asked.what == "digits":
        digits_p0(asked.folder, asked.work)
    elif asked.what == "p0":
        p0(asked.folder, asked.work, asked.device, steps=asked.steps, start=asked.start)
    else:
        score(asked.folder, asked.work, asked.device)


def _require_folder(option: str, folder: Path) -> None:
    """Make a folder, and write to it, before hours of training end there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise BadInput(f"{option} = {str(folder)!r}: must be a folder to write to ({error.strerror})") from None


if __name__ == "__main__":
    main()
