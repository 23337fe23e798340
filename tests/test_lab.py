"""JupyterLab as run_all.sh opens it: on this machine only, behind a token, gone at Ctrl-C; the explorer in it."""

import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from lib import paths, report

SHOTS = paths.PROJECT / "build" / "screenshots"
PATIENCE = 240  # seconds for JupyterLab to start, and for the notebook's cells to run
MOVES = 12  # key presses on each slider
PROMPT = 100  # milliseconds from a key to the new picture; a busy machine gets three times as long
# Notes when the picture of the explorer gets a new source, and when a key goes down.
WATCH = """
() => {
  const picture = document.querySelector('.jp-OutputArea-output .widget-image');
  window.seen = [];
  new MutationObserver(() => window.seen.push(performance.now())).observe(picture, {attributes: true});
  window.pressed = [];
  document.addEventListener('keydown', () => window.pressed.push(performance.now()), true);
}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def lab(scratch):
    """A running `run_all.sh lab` on the explorer: (process, address with its token)."""
    (scratch / "settings").mkdir()
    # The reader's own settings and workspaces stay out of it.
    own = {"JUPYTERLAB_SETTINGS_DIR": f"{scratch}/settings", "JUPYTERLAB_WORKSPACES_DIR": f"{scratch}/workspaces"}
    command = [sys.executable, "-m", "lib.reproduce", "lab", "--no-browser", "--only", "08"]
    log = scratch / "lab.log"
    command += ["--port", str(free_port())]
    screen, keyboard = os.openpty()  # Ctrl-C at a terminal would ask for confirmation
    with open(log, "w") as file:
        streams = {"stdin": keyboard, "stdout": file, "stderr": file}
        process = subprocess.Popen(command, cwd=paths.PROJECT, env=os.environ | own, **streams)
    try:
        yield process, _address(log, process)
    finally:
        process.terminate()
        process.wait(timeout=20)
        os.close(screen)
        os.close(keyboard)


def _address(log, process) -> str:
    for _ in range(PATIENCE * 5):
        found = re.search(r"http://127\.0\.0\.1:\d+/\S*token=\w+", log.read_text())
        if found:
            return found[0]
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_it_wants_the_token_and_stops_at_ctrl_c(lab):
    process, address = lab
    root, token = re.match(r"(http://[^/]+)/.*token=(\w+)", address).groups()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{root}/api/contents", timeout=10)
    assert refused.value.code == 403
    with urllib.request.urlopen(f"{root}/api/contents/notebooks?token={token}", timeout=10) as answer:
        names = {entry["name"] for entry in json.load(answer)["content"]}
    assert {path.name for path in paths.NOTEBOOKS.glob("*.ipynb")} <= names
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0


@pytest.fixture
def page():
    """A page of the system's Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser = next(filter(None, map(shutil.which, report.BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(report.BROWSERS)} is installed")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with api.sync_playwright() as play:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        window = play.chromium.launch(executable_path=browser, args=options)
        yield window.new_page(viewport={"width": 1500, "height": 1000})
        window.close()


def _open_and_run(page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=1000 * PATIENCE)
    page.wait_for_timeout(1500)  # a question about news would come by now
    assert page.locator(".Toastify__toast", has_text="news").count() == 0
    page.screenshot(path=SHOTS / "lab_opened.png")
    page.get_by_text("Run", exact=True).first.click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.locator(".widget-slider").first.wait_for(timeout=1000 * PATIENCE)
    for _ in range(3):  # between two cells the kernel is idle for a moment too
        page.get_by_text("| Idle").wait_for(timeout=1000 * PATIENCE)
        page.wait_for_timeout(700)


def test_sliders_and_clicks_move_the_figures_in_time(lab, page):
    _, address = lab
    _open_and_run(page, address)
    of = {name: page.locator(".widget-slider", has_text=name).locator(".noUi-handle") for name in ("round t", "γ")}
    of["γ"].scroll_into_view_if_needed()
    page.screenshot(path=SHOTS / "explorer_before.png")
    page.evaluate(WATCH)
    waits = [_move(page, of["round t"], "ArrowRight") for _ in range(MOVES)]
    waits += [_move(page, of["γ"], "ArrowLeft") for _ in range(MOVES)]
    page.screenshot(path=SHOTS / "explorer_after.png")
    print(f"slider to figure: median {statistics.median(waits):.0f} ms, slowest {max(waits):.0f} ms")
    for letter in "ABC":
        page.get_by_role("button", name=f"I like {letter}").click()
    page.get_by_role("button", name="retrain").click()
    page.get_by_text("3 clicks, round 1").wait_for(timeout=10_000)
    page.get_by_role("button", name="retrain").scroll_into_view_if_needed()
    page.screenshot(path=SHOTS / "curator.png")
    assert statistics.median(waits) < 3 * PROMPT


def _move(page, handle, key: str) -> float:
    """Press a key on a slider; milliseconds until the picture changed."""
    page.evaluate("() => { window.seen = []; window.pressed = []; }")
    handle.focus()
    handle.press(key)
    page.wait_for_function("() => window.seen.length > 0", timeout=10_000, polling=5)
    page.wait_for_timeout(50)
    return page.evaluate("() => window.seen[0] - window.pressed[0]")
