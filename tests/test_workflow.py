"""The workflow: which jobs it has, on which resources, and that it stops, goes on and fails as it should."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lib import jobs, paths, plan, profiles, reproduce, runs, step, workflow

TINY = [
    "toy.rounds=1", "toy.seeds=1", "toy.n_real=500", "toy.n_keep=64", "toy.first_steps=5", "toy.round_steps=2",
    "toy.batch=16", "toy.width=8", "toy.grid=32",
]  # fmt: skip
MINE = [option for setting in (*TINY, "workflow.separate_runs=true") for option in ("-p", setting)]

# Jobs one after the other, told apart by what they leave; the last needs both others.
SLEEPY = """
import sys
STEP = f"cd {config['project']} && {sys.executable} -m lib.step"
rule all:
    input: "two"
rule one:
    output: touch("one")
    shell: f"{STEP} one {config['build']}/one.log sleep {config['nap']}"
rule between:
    input: "one"
    output: touch("between")
    shell: f"{STEP} between {config['build']}/between.log sleep {config['between']}"
rule two:
    input: "one", "between"
    output: touch("two")
    shell: f"{STEP} two {config['build']}/two.log sleep 0.1"
"""
# Two jobs that could work side by side, were there two GPUs.
HUNGRY = """
import sys
rule all:
    input: expand("done/{name}", name=config["notebooks"])
rule each:
    output: touch("done/{name}")
    params: step=f"cd {config['project']} && {sys.executable} -m lib.step", log=config["build"] + "/{name}.log"
    resources: gpu=1
    shell: "{params.step} {wildcards.name} {params.log} bash {config[work]} {wildcards.name}"
"""
MEET = """
touch "$0.$1"
for _ in $(seq 600); do [ -e "$0.left" ] && [ -e "$0.right" ] && exit; sleep 0.1; done
echo waited in vain; exit 1
"""
AVOID = """
mkdir "$0.busy" && sleep 2 && rmdir "$0.busy"
"""
DRIVER = """
import json, sys
from pathlib import Path
from lib import workflow
workflow.SNAKEFILE = Path(sys.argv[1])
print(sorted(workflow.run(json.loads(sys.argv[2]), 1)), flush=True)
"""


def dry_run(profile: str, cluster: str) -> dict[str, dict]:
    """What Snakemake would do, by the name of each job: rule, input (names), threads, resources."""
    settings = ["--workflow-profile", str(paths.PROJECT / "workflow" / cluster), "--executor", "dryrun"]
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(workflow.SNAKEFILE), "--dry-run", *settings]
    line += ["--cores", "64", "--config", f"profile={profile}"]
    done = subprocess.run(line, cwd=paths.PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {}
    for block in re.split(r"^(?=(?:local)?rule )", done.stdout + done.stderr, flags=re.MULTILINE)[1:]:
        found = {
            key: re.search(rf"^    {key}: (.*)$", block, re.MULTILINE) for key in ("input", "output", "threads")
        }
        resources = re.search(r"^    resources: (.*)$", block, re.MULTILINE)
        name = found["output"][1].removeprefix("done/") if found["output"] else "all"
        jobs[name] = {
            "rule": re.match(r"(?:local)?rule (\w+):", block)[1],
            "input": {n.removeprefix("done/") for n in found["input"][1].split(", ")} if found["input"] else set(),
            "threads": int(found["threads"][1]) if found["threads"] else 1,
            "resources": dict(pair.split("=") for pair in resources[1].split(", ")),
        }
    return jobs


@pytest.fixture(scope="module")
def on_slurm(tmp_path_factory):
    """The jobs of the paper profile on a cluster; no CIFAR-10 is in sight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATED_LOOPS_DATA", str(tmp_path_factory.mktemp("empty")))
        return dry_run("paper", "slurm")


def test_a_dry_run_lists_every_job_of_the_plan(on_slurm):
    profile, names = profiles.load("paper"), [path.stem for path in paths.NOTEBOOKS.glob("*.py")]
    plans = plan.plans(names, profile, 0)
    planned = {job.name: job for jobs in plans.values() for job in jobs}
    assert set(on_slurm) == {*planned, *names, "report", "all"}
    for name, job in planned.items():
        assert on_slurm[name]["rule"] == job.rule
        assert on_slurm[name]["input"] == set(job.needs)
    for name in names:  # what held in the others is told by notebook 00, after them
        others = set(names) - {name} if name == "00_start_here" else set()
        assert on_slurm[name]["input"] == {job.name for job in plans[name]} | others
    assert on_slurm["report"]["input"] == set(names)


def test_a_run_that_notebooks_need_at_several_lengths_is_one_job(on_slurm):
    runs = [name for name, job in on_slurm.items() if job["rule"] == "image_run"]
    assert len({re.sub(r"-\d+rounds$", "", name) for name in runs}) == len(runs)
    for name in ("04_airplane_reward", "05_confidence_bias", "06_quality_with_real_data"):
        assert "control-seed0-20rounds" in on_slurm[name]["input"]


def test_every_rule_of_the_plan_is_there_and_images_come_after_their_networks(on_slurm):
    assert {job["rule"] for job in on_slurm.values()} == {*plan.RULES, "notebook", "report", "all"}
    runs = [job for job in on_slurm.values() if job["rule"] == "image_run"]
    assert all(job["input"] == {"classifier-fitted", "classifier-evaluator", "image-p0"} for job in runs)


def test_every_job_on_slurm_has_memory_and_minutes_and_images_a_gpu(on_slurm):
    chosen = yaml.safe_load((paths.PROJECT / "workflow" / "slurm" / "config.yaml").read_text())
    assert set(chosen["set-resources"]) | {"toy_p0", "toy_run"} == {*plan.RULES, "notebook"}
    for name, job in on_slurm.items():
        if job["rule"] in ("all", "report"):  # these run where snakemake was called
            continue
        wanted = chosen["default-resources"] | chosen["set-resources"].get(job["rule"], {})
        assert {key: int(job["resources"][key]) for key in wanted} == wanted
        assert job["threads"] == chosen["set-threads"].get(job["rule"], 1)
        images = job["rule"] in ("classifier", "image_p0", "image_run") or name[:2] in ("04", "05", "06", "07")
        assert int(job["resources"].get("gpu", 0)) == images


def test_kubernetes_has_the_same_jobs_with_memory(on_slurm):
    pytest.importorskip("snakemake_storage_plugin_fs", reason="a plugin of the extra `cluster`")
    pytest.importorskip("snakemake_executor_plugin_kubernetes", reason="a plugin of the extra `cluster`")
    jobs = dry_run("paper", "kubernetes")
    assert set(jobs) == set(on_slurm)
    assert all(int(job["resources"]["mem_mb"]) >= 4000 for job in jobs.values() if job["rule"] != "all")


def test_at_quick_a_notebook_computes_its_own_runs():
    assert {job["rule"] for job in dry_run("quick", "slurm").values()} == {"notebook", "report", "all"}


def test_a_plan_needs_no_torch():
    code = "import sys, lib.plan, lib.step, lib.workflow, lib.profiles; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.PROJECT).returncode == 0


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "BUILD", tmp_path / "build")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    return tmp_path / "build" / "quick"


def test_runs_are_jobs_of_their_own_and_a_damaged_one_is_made_again(build, capsys):
    profile = profiles.load("quick", reproduce.parse_settings(TINY))
    planned = {job.name: job for job in plan.jobs("03", profile, 0)}
    jobs.compute(planned["moons-control-seed0"], profile)
    (last,) = paths.runs().glob("moons-*/round_001.safetensors")
    stored = runs.Store(last.parent, {}).load("round_001")[0]
    whole = {key: value.clone() for key, value in stored.items()}  # what is loaded is mapped from the file
    last.write_bytes(last.read_bytes()[:-8])
    assert reproduce.main(["--only", "03", "--jobs", "2", *MINE]) == 0
    out = capsys.readouterr().out
    assert {line.split(":")[0] for line in out.splitlines() if ": done" in line} == {
        *planned,
        "03_two_moons",
        "report",
    }
    assert "round_001.safetensors is damaged" in (build / "moons-control-seed0.log").read_text()
    again = runs.Store(last.parent, {}).load("round_001")[0]
    assert all((whole[key] == again[key]).all() for key in whole)
    assert "damaged" not in (build / "03_two_moons.log").read_text()
    assert "two_moons" in (build / "report" / "index.html").read_text()


def test_where_a_job_fails_what_needs_it_is_not_started_and_the_summary_says_so(build, capsys, monkeypatch):
    monkeypatch.setenv("CURATED_LOOPS_RUNS", "/dev/null/nowhere")
    assert reproduce.main(["--only", "03", "--jobs", "1", *MINE]) == 1
    out = capsys.readouterr().out
    (said,) = [line for line in out.splitlines() if "FAILED" in line]
    assert said.startswith("moons-p0-seed0: FAILED: ")
    assert "/dev/null/nowhere" in said
    assert str(build / "moons-p0-seed0.log") in said
    (row,) = [line for line in out.splitlines() if line.startswith("03_two_moons ")]
    assert row.split()[1:] == ["0", "0", "-", "-"]
    assert "\n03_two_moons: not started, since a job that it needs failed\n" in out


def test_a_failure_of_snakemake_itself_is_one_line(build, capsys, monkeypatch, tmp_path):
    broken = tmp_path / "Snakefile"
    broken.write_text("rule all:\n    input: 'missing'\n")
    monkeypatch.setattr(workflow, "SNAKEFILE", broken)
    assert reproduce.main(["--only", "01"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert str(build / "workflow.log") in captured.err


def test_news_is_read_back():
    assert step.read("a-b: started\n") == step.News("a-b", None, None)
    assert step.read("a: done after 12 s\n") == step.News("a", 12.0, None)
    assert step.read("a: FAILED: no: room (whole log: x) after 3 s\n").error == "no: room (whole log: x)"
    assert step.read("anything else\n") is None


@pytest.mark.parametrize(("code", "says"), [("kill -9 $$", "killed by SIGKILL"), ("echo 1; echo 2; exit 3", "2")])
def test_a_step_tells_why_it_failed(code, says, tmp_path, capsys):
    assert step.run("x", tmp_path / "x.log", ["bash", "-c", code]) != 0
    assert f"x: FAILED: {says} (whole log: {tmp_path / 'x.log'})" in capsys.readouterr().out


def test_news_are_written_whole_even_where_output_is_not_buffered(tmp_path, monkeypatch):
    writes = []
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=writes.append, flush=lambda: None))
    step.run("x", tmp_path / "x.log", ["true"])
    assert [line[-1:] for line in writes] == ["\n", "\n"]
    assert [(news.name, news.error) for news in map(step.read, writes)] == [("x", None), ("x", None)]


@pytest.fixture
def hungry(tmp_path, monkeypatch):
    """Runs a script as every job of a list, each asking for a GPU; what became of them, by name."""
    (tmp_path / "Snakefile").write_text(HUNGRY)
    monkeypatch.setattr(workflow, "SNAKEFILE", tmp_path / "Snakefile")

    def run(names, work, *parallel, **options):
        (tmp_path / "work.sh").write_text(work)
        config = {"build": str(tmp_path / "build"), "project": str(paths.PROJECT), "threads": 1}
        return workflow.run(config | {"notebooks": names, "work": str(tmp_path / "work.sh")}, *parallel, **options)

    return run


@pytest.mark.parametrize(("gpu", "work"), [(True, AVOID), (False, MEET)])
def test_jobs_that_want_a_gpu_take_turns_where_there_is_one(gpu, work, hungry):
    ended = hungry(["left", "right"], work, 2, gpu=gpu)
    assert {name: news.error for name, news in ended.items()} == {"left": None, "right": None}


def test_long_notebooks_begin_first(hungry):
    names = ["00_a", "01_b", "02_c", "03_d", "06_e", "07_f"]
    assert set(list(hungry(names, "true", 1))[:3]) == {"02_c", "03_d", "07_f"}


def start(tmp_path: Path, nap: float, between: float = 0.1) -> subprocess.Popen:
    (tmp_path / "Snakefile").write_text(SLEEPY)
    config = {"build": str(tmp_path / "build"), "project": str(paths.PROJECT), "threads": 1}
    config |= {"nap": nap, "between": between}
    line = [sys.executable, "-c", DRIVER, str(tmp_path / "Snakefile"), json.dumps(config)]
    return subprocess.Popen(line, cwd=paths.PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def left_over(tmp_path: Path) -> list[int]:
    """Processes that still work in the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has just ended
            continue
        if str(tmp_path) in line and path.parent.name != str(os.getpid()):
            found.append(int(path.parent.name))
    return found


def wait_until_idle(tmp_path: Path, seconds: float) -> None:
    until = time.time() + seconds
    while left_over(tmp_path) and time.time() < until:
        time.sleep(0.1)
    assert left_over(tmp_path) == []


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for left-over processes in /proc")
def test_an_interrupt_stops_everything_in_seconds_and_the_same_command_goes_on(tmp_path):
    child = start(tmp_path, nap=300)
    assert child.stdout.readline() == "one: started\n"
    began = time.time()
    child.send_signal(signal.SIGINT)  # to the driver alone, as a supervisor would
    child.wait(20)
    assert time.time() - began < 15
    wait_until_idle(tmp_path, 2)
    again = start(tmp_path, nap=0.1)
    assert again.stdout.read().splitlines()[-1] == "['between', 'one', 'two']"
    assert again.wait() == 0


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for left-over processes in /proc")
@pytest.mark.parametrize("everything", [False, True])
def test_after_a_kill_what_is_left_ends_and_the_same_command_goes_on(everything, tmp_path):
    child = start(tmp_path, nap=4)
    assert child.stdout.readline() == "one: started\n"
    child.kill()
    child.wait()
    child.stdout.close()
    if everything:
        for pid in left_over(tmp_path):
            os.kill(pid, signal.SIGKILL)
    # while the last job of the killed one still works; it then fails, before the last job here begins
    again = start(tmp_path, nap=0.1, between=5)
    assert again.stdout.read().splitlines()[-1] == "['between', 'one', 'two']"
    assert again.wait() == 0
    wait_until_idle(tmp_path, 20)
