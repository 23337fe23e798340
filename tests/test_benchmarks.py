"""The benchmarks measure what they say; the README says what they measured."""

import importlib
import re
import shutil
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

import benchmarks
from benchmarks import choice, dynamics, loops, losses, summary, timing
from benchmarks.__main__ import SUITES, main
from lib import paths, population
from lib.generators.flow import Flow
from lib.generators.networks import ConvSettings, MlpSettings


def test_contenders_take_turns():
    calls = []
    table = timing.alternate({name: lambda name=name: calls.append(name) for name in "abc"}, repeats=3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert list(table["contender"]) == ["a", "b", "c"]
    assert (table["least"] <= table["seconds"]).all()
    assert (table["seconds"] <= table["greatest"]).all()


def test_the_plain_loop_chooses_by_the_same_law():
    values, prob = np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.3, 0.2])
    reward = np.random.default_rng(0).choice(values, 40_000, p=prob)
    kept = reward[choice.plain(reward)]
    counts = [int((kept == value).sum()) for value in values]
    expected = len(kept) * prob * population.choice_weight(values, prob, choice.K)
    assert stats.chisquare(counts, expected * sum(counts) / expected.sum()).pvalue > 1e-3


def test_monte_carlo_approaches_the_exact_step(monkeypatch):
    monkeypatch.setattr(dynamics, "MENUS", (10**4, 10**6))
    table = dynamics.monte_carlo("cpu").set_index("menus")["error"]
    assert table[0] < 1e-14
    assert table[10**4] < 0.03
    assert table[10**6] < 0.003


def test_tables_are_kept_with_their_provenance(tmp_path):
    timing.save("speeds", pd.DataFrame({"contender": ["ours"], "seconds": [0.5]}), tmp_path, "cpu")
    kept = tmp_path / timing.machine("cpu")
    assert pd.read_csv(kept / "speeds.csv")["seconds"].iloc[0] == 0.5
    about = pd.read_json(kept / "speeds.json", typ="series")
    assert {"date", "cpu", "commit", "clean_tree", "packages"} <= set(about.index)
    assert {"name", "cores", "amx_bf16", "avx512_bf16"} == set(about["cpu"])


@pytest.mark.parametrize(
    ("able", "name"),
    [
        ({"cpu_name": "Intel Xeon", "amx_bf16": True, "avx512_bf16": True}, "intel-xeon-amx-bf16"),
        ({"cpu_name": "AMD EPYC", "amx_bf16": False, "avx512_bf16": True}, "amd-epyc-avx512-bf16"),
        ({"cpu_name": "Neoverse (N1)"}, "neoverse-n1"),
    ],
)
def test_a_machine_is_named_for_its_cpu_and_fastest_bf16_unit(monkeypatch, able, name):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert timing.machine("cpu") == name


def test_the_command_keeps_a_machines_tables_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, "MENUS", (100,))
    line = ["bench", "--only", "monte_carlo", "--device", "cpu", "--folder", str(tmp_path)]
    monkeypatch.setattr("sys.argv", line)
    main()
    assert (tmp_path / timing.machine("cpu") / "monte_carlo.csv").exists()


def test_unknown_names_are_refused_beside_the_known_ones_which_are_in_the_help(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "--only", "nope"])
    with pytest.raises(SystemExit):
        main()
    usage, error = capsys.readouterr().err.splitlines()
    assert usage == "usage: ./run_all.sh bench [--only NAME[,NAME...]]"
    assert error.endswith(f"--only = 'nope': must be one of {', '.join(SUITES)}")
    text = " ".join((paths.PROJECT / "run_all.sh").read_text().split())
    assert f"--only some of {', '.join(SUITES)} " in text


def test_machines_stand_side_by_side_each_with_what_it_measured(tmp_path):
    for machine, names in {"one": ["pairing", "dynamics"], "two": ["choice"]}.items():
        (tmp_path / machine).mkdir()
        for name in names:
            stored = next(timing.RESULTS.glob(f"*/{name}.csv"))
            shutil.copy(stored, tmp_path / machine)
            shutil.copy(stored.with_suffix(".json"), tmp_path / machine)
    one, two = summary.tables(tmp_path).split("<details")[1:]
    assert (one.startswith(" open>"), two.startswith(">")) == (True, True)
    assert "OT pairing" in one
    assert "exact dynamics" in one
    assert "K-choice" not in one
    assert "Measured: pairing, dynamics on 20" in one
    assert "K-choice" in two
    assert "Measured: choice on 20" in two


def test_on_a_gpu_the_compiled_network_stands_for_us():
    made = {
        "seconds": [0.2, 0.4, 0.1],
        "times torchcfm": [2.0, 1.0, 4.0],
        "GFLOP forward": 12.0,
        "GFLOP/s": [5.0, 2.5, 10.0],
    }
    ceilings = {"of bf16 matmul ceiling": [0.1, 0.05, 0.2], "of bf16 convolution ceiling": [0.2, 0.1, 0.4]}
    about = {"size": "published", "batch": 128, "NFE": 16, "device": "cuda", "precision_of_ours": "bf16"}
    table = pd.DataFrame({"contender": ["ours", "torchcfm", "ours, compiled"], **made, **ceilings, **about})
    ((_, ours, theirs, ratio),) = summary._training(table)
    assert ours.startswith("0.100 s (12.0 GFLOP forward; 10 GFLOP/s, 40% of the convolution and 20% of the matmul")
    assert "not compiled 0.200 s" in ours
    assert theirs.startswith("torchcfm: 0.400 s")
    assert ratio == "4.0 (2.0 not compiled)"
    ((_, ours, _, ratio),) = summary._sampling(table.assign(**{"images/s": [10.0, 5.0, 20.0]}))
    assert (ours, ratio) == ("20.0 images/s (12.0 GFLOP); not compiled 10.0", "4.0 (2.0 not compiled)")


def row(table: pd.DataFrame, name: str, number: int = 0) -> tuple[str, ...]:
    return summary.ROWS[name](table)[number]


def test_rows_of_the_readme_say_what_their_tables_hold():
    choices = {"contender": ["ours", "loop over menus"], "seconds": [0.02, 30.0], "repeats": [21, 1], "n": 10**7}
    choices |= {"of copy bandwidth": [0.25, np.nan], "times ours": [np.nan, 1500.0]}
    _, *cells = row(pd.DataFrame(choices), "choice")
    assert cells == ["20 ms (25% of a copy's bandwidth)", "loop over menus: 30 s (once)", "1,500"]

    drawn = {"method": ["exact", "drawn"], "menus": [0, 1000], "seconds": [0.001, 2.0], "error": [1e-16, 1e-4]}
    _, *cells = row(pd.DataFrame(drawn), "monte_carlo")
    instead = "Monte Carlo, 1,000 menus: 2.0 s (once), error 1e-04"
    assert cells == ["1.00 ms, error 1e-16", instead, "2,000, at 1e+12 times the error"]

    each = {"notebook": ["01_a", "02_b", "all"], "seconds": [60.0, 30.0, 48.0]}
    each |= {"peak MiB": [700.0, 900.0, 800.0], "together MiB": [1.0, 1.0, 1500.0]}
    assert row(pd.DataFrame(each), "quick")[1] == "1.5 minutes, at most 900 MiB each"
    assert row(pd.DataFrame(each), "quick", 1)[1] == "0.8 minutes, 1,500 MiB in all processes together"

    ends = [{**loops.BASE, "k": k, "seconds in rounds": k, "peak MiB": 9 + k} for k in (2, 4)]
    grown = pd.DataFrame(ends).assign(grows="k")
    assert row(grown.assign(k=4), "growth")[:2] == (
        "2-D DDPM round, 4,096 kept of 16,384, one core",
        "0.50 to 1.00 s",
    )
    seconds, memory = "2.0 to 4.0 s (2.0 times)", "11 to 13 MiB"
    assert row(grown, "growth", 1)[:2] == ("2-D loop, k from 2 to 4 (2 times)", f"{seconds}, {memory}")


def test_errors_of_solvers_are_those_of_the_worse_precision_of_each_model():
    pairs = [(model, method) for model in ("cifar_p0", "digits_p0") for method in summary.SOLVERS]
    cells = [(*pair, nfe, precision) for pair in pairs for nfe in (8, 16) for precision in ("fp32", "bf16")]
    table = pd.DataFrame(cells, columns=["model", "method", "NFE", "precision"])
    table["rmse"] = np.arange(len(table)) / 1000
    first, by_nfe, digits, contrast = summary._solvers(table.assign(spread=0.5))
    assert first[1:3] == ("Adams: 0.003", "midpoint: 0.007; Heun: 0.011; Euler: 0.015")
    assert by_nfe[1:3] == ("Adams: 0.001 (8), 0.003 (16)", "midpoint: 0.005 (8), 0.007 (16)")
    assert digits[1:3] == ("midpoint: 0.021 (8), 0.023 (16)", "Adams: 0.017 (8), 0.019 (16)")
    assert contrast[1] == "Adams: 50.0%"


def test_a_loop_is_timed_as_each_of_its_sizes_grows(monkeypatch):
    monkeypatch.setattr(loops, "BASE", {"n_keep": 64, "rounds": 1, "k": 2, "arms": 1})
    monkeypatch.setattr(loops, "GROWTH", {"rounds": (1, 2)})
    table = loops.growth("cpu")
    assert table["rounds"].tolist() == [1, 2]
    assert (table["seconds in rounds"] > 0).all()
    assert table["peak MiB"].between(100, 4000).all()


def test_choices_are_timed_beside_a_copy_and_the_plain_loop(monkeypatch):
    monkeypatch.setattr(choice, "SIZES", (400, 4000))
    monkeypatch.setattr(choice, "COPIED", 1000)
    monkeypatch.setattr(choice, "LOOPED", 400)
    table = choice.run("cpu")
    assert table["contender"].tolist() == ["ours", "loop over menus", "ours"]
    ours = table.iloc[0]
    assert ours["GB/s that must move"] == pytest.approx((4 * 400 + 8 * 100) / ours["seconds"] / 1e9)
    assert table.iloc[1]["times ours"] == pytest.approx(table.iloc[1]["seconds"] / ours["seconds"])


@pytest.mark.parametrize(
    ("device", "precision", "names"),
    [("cuda", "bf16", ["ours, compiled"]), ("cpu", "bf16", ["ours, float32"]), ("cpu", "fp32", [])],
)
def test_further_contenders_are_what_a_machine_has_besides(small_networks, device, precision, names):
    training, _ = small_networks
    flow = types.SimpleNamespace(device=torch.device(device), precision=precision)
    assert list(training.variants(flow)) == names


def test_each_way_of_training_has_its_loss_and_samples(monkeypatch):
    monkeypatch.setattr(losses, "NET", ConvSettings((1, 8, 8), (32, 64)))
    monkeypatch.setattr(losses, "STEPS", 8)
    monkeypatch.setattr(losses, "SEEDS", 1)
    monkeypatch.setattr(losses, "SAMPLES", 20)
    monkeypatch.setattr(losses, "resolve_precision", lambda *_: "bf16")
    monkeypatch.setattr(losses.shutil, "which", lambda _: None)  # no compiler: `test_compiled` is about that way
    fit, fits = Flow.fit, []
    monkeypatch.setattr(Flow, "fit", lambda *a, **options: fits.append(fit(*a, **options)) or fits[-1])
    table = losses.run("cpu").set_index("way")
    assert table["loss, quarter 1"].tolist() == pytest.approx([np.mean(found[:2]) for found in fits])
    assert table["loss, quarter 4"].tolist() == pytest.approx([np.mean(found[6:]) for found in fits])
    assert list(table.index) == [way for way in losses.WAYS if way != "compiled"]
    plain = table.loc["float32"]
    assert table.loc["bfloat16", "loss, quarter 1"] == pytest.approx(plain["loss, quarter 1"], rel=0.02)
    assert table.loc["two shards", "loss, quarter 4"] == pytest.approx(plain["loss, quarter 4"], rel=1e-4)
    assert table.drop(index="two shards")["loss, quarter 4"].nunique() == 3, "the others differ"
    assert (table["frechet_distance_pixels"] > 0).all()
    (last, _, others, _), _ = summary._losses(table.reset_index())
    assert "last quarter" in last
    assert "Muon" in others


def test_a_process_that_fails_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="no such thing"):
        timing.process(["bash", "-c", "echo no such thing; exit 3"], tmp_path)


def test_the_memory_of_a_process_is_not_that_of_who_started_it(tmp_path):
    held = torch.ones(10**8)  # 400 MB
    assert timing.process([sys.executable, "-c", "pass"], tmp_path)["peak MiB"] < 100
    assert timing.process([sys.executable, "-c", "b'1' * (2 * 10**8)"], tmp_path)["peak MiB"] > 190
    assert len(held) == 10**8


def test_what_all_processes_of_a_command_hold_is_added_up(tmp_path):
    one = f"{sys.executable} -c \"kept = b'1' * (2 * 10**8); import time; time.sleep(4)\""
    found = timing.process(["bash", "-c", f"{one} & {one} & wait"], tmp_path)
    assert 190 < found["peak MiB"] < 300
    assert 380 < found["together MiB"] < 500


def test_minutes_of_notebooks_are_the_measured_ones():
    stored = pd.read_csv(timing.RESULTS / "amd-epyc-avx512-bf16" / "quick.csv").set_index("notebook")
    whole, each = stored.loc["all"], stored["seconds"].drop(index="all")
    minutes = {name: f"{seconds / 60:.1f}" for name, seconds in each.items()}
    found = dict(re.findall(r"\[(\d\d_\w+)\]\(notebooks/[^|]*\|[^|]*\| ([\d.]+) \|", summary.README.read_text()))
    assert found == minutes
    minute, second = divmod(round(whole["seconds"]), 60)
    text = " ".join(summary.README.read_text().split())
    assert f"all together took {minute} min {second} s and {whole['together MiB']:,.0f} MiB there" in text
    first = (paths.NOTEBOOKS / "00_start_here.py").read_text()
    found = dict(re.findall(r"^# \| \[(\d\d_\w+)\].* \| ([\d.]+) \|$", first, re.MULTILINE))
    assert found == {name: took for name, took in minutes.items() if name != "00_start_here"}


def test_the_readme_holds_the_table_of_the_stored_results():
    found = summary.BLOCK.search(summary.README.read_text())
    assert found, "the README has no table of speeds"
    assert found[0] == found[1] + summary.tables() + found[2]


class Matcher:
    """Stands in for torchcfm's."""

    def __init__(self, sigma):
        assert sigma == 0

    def sample_location_and_conditional_flow(self, x0, x1):
        t = torch.rand(len(x0))
        return t, torch.lerp(x0, x1, t[:, None, None, None]), x1 - x0


class Peer(torch.nn.Conv2d):
    """Stands in for torchcfm's U-Net."""

    calls = 0

    def __init__(self, **_):
        super().__init__(3, 3, 1)

    def forward(self, t, x):
        Peer.calls += 1
        return super().forward(x)


@pytest.fixture
def small_networks(monkeypatch):
    """`training` and `sampling` with tiny networks, and torchcfm or not."""
    names = ("torchcfm", "torchcfm.conditional_flow_matching", "torchcfm.models", "torchcfm.models.unet")
    for name in (*names, "torchcfm.models.unet.unet"):
        fake = types.ModuleType(name)
        fake.ExactOptimalTransportConditionalFlowMatcher, fake.UNetModelWrapper = Matcher, Peer
        monkeypatch.setitem(sys.modules, name, fake)
    for name in ("networks", "training", "sampling"):
        monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
        monkeypatch.delattr(benchmarks, name, raising=False)
    training, sampling = (importlib.import_module(f"benchmarks.{name}") for name in ("training", "sampling"))
    networks = training.networks
    settings = MlpSettings((3, 32, 32), 16, 1)
    monkeypatch.setattr(networks, "ours", lambda size, device, **options: Flow(settings, flip=True, **options))
    yield training, sampling
    for name in ("networks", "training", "sampling"):  # those with the stand-ins
        sys.modules.pop(f"benchmarks.{name}", None)
        vars(benchmarks).pop(name, None)


def test_training_and_sampling_are_timed_at_both_sizes(small_networks, monkeypatch):
    """The code of every device but for its sizes, with tiny networks on the CPU."""
    training, sampling = small_networks
    monkeypatch.setattr(training, "ceilings", lambda device: {"matmul": 1000.0, "convolution": 500.0})
    for steps in (training.STEPS, training.FIT):
        monkeypatch.setitem(steps, "cpu", 1)
    for table in (training.run("cpu"), sampling.run("cpu")):
        assert {"published", "cifar"} == set(table["size"])
        assert {"ours", "torchcfm"} <= set(table["contender"])
        assert (table.loc[table["contender"] == "torchcfm", "times torchcfm"] == 1).all()
    ours = training.run("cpu").query("contender == 'ours' and size == 'cifar'").iloc[0]
    assert ours["GFLOP/s"] == pytest.approx(3 * 128 * ours["GFLOP forward"] / ours["seconds"])
    assert ours[f"of {ours['precision_of_ours']} convolution ceiling"] == pytest.approx(ours["GFLOP/s"] / 500)


def test_seconds_are_those_of_a_step_whatever_the_length_of_a_fit(small_networks, monkeypatch):
    training, _ = small_networks
    monkeypatch.setattr(training, "ceilings", lambda device: {"matmul": 1000.0})
    monkeypatch.setattr(training, "variants", lambda flow: {"ours, compiled": {"compiled": True}})
    monkeypatch.setitem(training.STEPS, "cpu", 3)
    monkeypatch.setitem(training.FIT, "cpu", 12)
    fits = []
    monkeypatch.setattr(Flow, "fit", lambda self, images, steps, **options: fits.append(steps))

    def took(contenders, repeats):
        """As if every contender took twelve seconds."""
        for work in contenders.values():
            work()
        times = dict.fromkeys(("seconds", "least", "greatest"), 12.0)
        return pd.DataFrame([{"contender": name} | times for name in contenders])

    monkeypatch.setattr(training, "alternate", took)
    table = training.run("cpu").query("size == 'cifar'").set_index("contender")
    assert fits == [12] * 4
    assert table["seconds"].to_dict() == {"ours": 1, "torchcfm": 4, "ours, compiled": 1}
    assert table["times torchcfm"].to_dict() == {"ours": 4, "torchcfm": 1, "ours, compiled": 4}


def test_a_peer_samples_with_as_many_evaluations_as_stated(small_networks, monkeypatch):
    _, sampling = small_networks
    monkeypatch.setattr(Peer, "calls", 0)
    table = sampling.run("cpu")
    costs, runs = (
        1,
        4,
    )  # of each size: its GFLOP are counted once, and it samples once untimed and three times timed
    assert Peer.calls == 2 * (costs + runs * sampling.NFE)
    ours, theirs = (table.query(f"contender == '{name}'")["GFLOP forward"] for name in ("ours", "torchcfm"))
    assert theirs.tolist() == pytest.approx([2 * 3 * 3 * 32 * 32 / 1e9] * 2)
    assert ours.tolist() == pytest.approx([2 * (2 * 3072 * 16 + 4 * 16 * 16) / 1e9] * 2, rel=0.1)


def test_ceilings_are_the_work_done_over_its_seconds(small_networks, monkeypatch):
    training, _ = small_networks

    def counted(contenders):
        """As if every GFLOP took a second."""
        rows = []
        for name, work in contenders.items():
            with FlopCounterMode(display=False) as counter:
                work()
            rows.append({"contender": name, "least": counter.get_total_flops() / 1e9})
        return pd.DataFrame(rows)

    monkeypatch.setattr(training, "alternate", counted)
    monkeypatch.setattr(training, "resolve_precision", lambda *_: "fp32")
    assert training.ceilings("cpu") == {"matmul": pytest.approx(1), "convolution": pytest.approx(1)}


def test_errors_are_root_mean_squares_at_the_stated_evaluations(small_networks, monkeypatch, tmp_path):
    _, sampling = small_networks
    for name in ("cifar_p0", "digits_p0"):
        Flow(MlpSettings((3, 32, 32), 16, 1)).save(tmp_path / f"{name}.safetensors", {})
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path)
    asked = []

    def solve(flow, noise, method, steps, precision):
        asked.append((method, steps))
        return torch.tensor([1.0, -1.0]) if method == "dopri5" else torch.tensor([1.5, -1.5])

    monkeypatch.setattr(sampling, "_solve", solve)
    table = sampling.errors("cpu")
    assert table["rmse"].tolist() == pytest.approx([0.5] * len(table))
    assert table["spread"].tolist() == pytest.approx([1.5] * len(table))
    table, asked = (found[: len(found) // 2] for found in (table, asked))  # of the first p_0
    sixteen = {method: steps for (method, steps), nfe in zip(asked[1:], table["NFE"], strict=True) if nfe == 16}
    assert sixteen == {"adams": 15, "midpoint": 8, "heun": 8, "euler": 16}


def test_networks_of_both_sides_are_the_published_size():
    pytest.importorskip("torchcfm", reason="a peer of the benchmarks, installed by ./run_all.sh bench")
    from benchmarks import networks

    sizes = {
        "ours": networks.ours("published", "cpu").net,
        "torchcfm": networks.theirs("published", "cpu"),
    }
    for name, net in sizes.items():
        assert sum(p.numel() for p in net.parameters()) == pytest.approx(35.7e6, rel=0.02), name
