"""JupyterLab as run_all.sh opens it: on this machine only, behind a token, gone at Ctrl-C; all notebooks in it."""

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pytest

from lib import controls, explorer, figures, paths, report, stage

SHOTS = "CURATED_LOOPS_SHOTS"  # environment variable: a folder for screenshots; none are kept without it
NAMES = [path.stem for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))]
PATIENCE = 240  # seconds for JupyterLab to start, and for a notebook's cells to run
MOVES = 12  # key presses on each slider, and places on the way of the mouse
PROMPT = 100  # milliseconds from a key or a move to the new picture; a busy machine gets three times as long
SIZE = {"width": 1400, "height": 1000}
NARROW = 1000  # pixels: here the explorer's picture is shrunk
EXACT = 0.15  # units of x between mouse and sliders: two pixels of the shrunk picture
# A reader's settings, but for two: nothing is saved into the tree, and cells out of sight are drawn too.
SETTINGS = {
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
# Notes when the picture of the explorer gets a new source, when a key goes down and when the mouse moves.
WATCH = """
() => {
  const picture = document.querySelector('.jp-OutputArea-output .widget-image');
  window.seen = [];
  new MutationObserver(() => window.seen.push(performance.now())).observe(picture, {attributes: true});
  window.acted = [];
  for (const act of ['keydown', 'mousemove'])
    document.addEventListener(act, () => window.acted.push(performance.now()), true);
}
"""
FRONT = ".jp-NotebookPanel:not(.lm-mod-hidden)"  # the notebook in front
PICTURE = f"{FRONT} .jp-OutputArea-output .widget-image"
# What a reader would see of it now.
LOOK = """
() => {
  const front = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)');
  const all = selector => [...front.querySelectorAll(selector)];
  const broken = ['error', 'stderr'].map(kind => `[data-mime-type="application/vnd.jupyter.${kind}"]`);
  return {
    name: document.querySelector('.jp-mod-current .lm-TabBar-tabLabel').textContent,
    code: all('.jp-CodeCell').length,
    pictures: all('.jp-OutputArea-output img').filter(i => i.complete && i.naturalWidth > 0).length,
    formulas: all('mjx-container').length,
    faults: all([...broken, 'mjx-merror'].join()).map(e => e.textContent.slice(0, 200)),
    wide: all('.jp-OutputArea-output').filter(e => e.scrollWidth > e.clientWidth + 1)
      .map(e => e.textContent.slice(0, 60)),
  };
}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_lab(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A `run_all.sh lab` with its settings, runs and figures in a folder: (process, address with its token)."""
    for plugin, values in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    own = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    own |= {"CURATED_LOOPS_RUNS": "runs", "CURATED_LOOPS_FIGURES": "figures"}
    environment = os.environ | {name: str(folder / place) for name, place in own.items()}
    command = [sys.executable, "-m", "lib.reproduce", "lab", "--no-browser", "--port", str(free_port())]
    log = folder / "lab.log"
    screen, keyboard = os.openpty()  # Ctrl-C at a terminal would ask for confirmation
    with open(log, "w") as file:
        streams = {"stdin": keyboard, "stdout": file, "stderr": file}
        process = subprocess.Popen(command, cwd=paths.PROJECT, env=environment, **streams)
    try:
        yield process, _address(log, process)
    finally:
        process.terminate()
        process.wait(timeout=20)
        os.close(screen)
        os.close(keyboard)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _address(log: Path, process: subprocess.Popen) -> str:
    for _ in range(PATIENCE * 5):
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\S*token=\w+", log.read_text())
        if found and _answers(int(found[1])):  # the address is printed a moment before
            return found[0]
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_it_opens_the_tour_wants_the_token_and_stops_at_ctrl_c(scratch):
    with running_lab(scratch) as (process, address):
        assert "/lab/tree/notebooks/00_start_here.ipynb" in address
        root, token = re.match(r"(http://[^/]+)/.*token=(\w+)", address).groups()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{root}/api/contents", timeout=10)
        assert refused.value.code == 403
        with urllib.request.urlopen(f"{root}/api/contents/notebooks?token={token}", timeout=10) as answer:
            names = {entry["name"] for entry in json.load(answer)["content"]}
        assert {f"{name}.ipynb" for name in NAMES} <= names
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of the system's Chromium with a running JupyterLab in it."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, report.BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(report.BROWSERS)} is installed")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with running_lab(tmp_path_factory.mktemp("lab")) as (_, address), api.sync_playwright() as play:
        window = play.chromium.launch(executable_path=found, args=options)
        page = window.new_page(viewport=SIZE)
        page.goto(address)
        page.wait_for_selector(f"{FRONT} .jp-CodeCell", timeout=1000 * PATIENCE)
        yield page
        window.close()


def _open(page, name: str) -> None:
    """Open a notebook from the list of files, as a reader would, and wait until all that is stored is drawn."""
    page.locator(f".jp-DirListing-item[title*='{name}.ipynb']").dblclick()
    stored = json.dumps(_stored(name))
    drawn = f"""() => {{
      const [seen, stored] = [({LOOK})(), {stored}];
      const same = ['name', 'code', 'pictures'].every(key => seen[key] == stored[key]);
      return same && seen.formulas >= stored.formulas;
    }}"""
    page.wait_for_function(drawn, timeout=1000 * PATIENCE)


def _stored(name: str) -> dict:
    """Code cells and pictures of a notebook as it lies on disk, and formulas that stand in lines of their own."""
    cells = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    kinds = [kind for cell in cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    prose = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {
        "name": f"{name}.ipynb",
        "code": sum(cell["cell_type"] == "code" for cell in cells),
        "pictures": sum(kind.startswith("image/") for kind in kinds),
        "formulas": prose.count("$$") // 2,
    }


def _shoot(page, name: str) -> None:
    """Keep screenshots of a whole notebook, one a screenful, where somebody asked for them."""
    if not os.environ.get(SHOTS):
        return
    folder = Path(os.environ[SHOTS])
    folder.mkdir(parents=True, exist_ok=True)
    panel = page.locator(f"{FRONT} .jp-WindowedPanel-outer")
    height, step = panel.evaluate("e => [e.scrollHeight, e.clientHeight]")
    for i, top in enumerate(range(0, height, step)):
        panel.evaluate("(e, top) => { e.scrollTop = top; }", top)
        page.wait_for_timeout(150)
        page.screenshot(path=folder / f"{name}_{i:02d}.png")


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_opens_whole_and_without_faults(page, name):
    _open(page, name)
    _shoot(page, name)
    seen = page.evaluate(LOOK)
    assert seen["faults"] == []
    assert seen["wide"] == []  # nothing needs scrolling sideways
    assert page.locator(".Toastify__toast", has_text="news").count() == 0


def _restart_and_run_all(page, name: str) -> None:
    _open(page, name)
    page.get_by_text("Run", exact=True).first.click()
    page.get_by_text("Restart Kernel and Run All Cells…", exact=True).click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    prompts = page.locator(f"{FRONT} .jp-CodeCell .jp-InputPrompt")
    prompts.filter(has_text="[*]").first.wait_for(timeout=1000 * PATIENCE)  # it has begun
    done = f"() => [...document.querySelectorAll('{FRONT} .jp-CodeCell .jp-InputPrompt')]"
    done += ".every((prompt, i) => prompt.textContent == `[${i + 1}]:`)"
    page.wait_for_function(done, timeout=1000 * PATIENCE)
    assert page.evaluate(LOOK)["faults"] == []


def test_the_tour_runs_from_the_top(page):
    _restart_and_run_all(page, "00_start_here")
    assert page.evaluate(LOOK)["pictures"] == _stored("00_start_here")["pictures"]


@pytest.fixture(scope="module")
def live(page):
    """The page with notebook 08 run in it, and the explorer's picture watched."""
    _restart_and_run_all(page, "08_explorer")
    page.locator(PICTURE).first.scroll_into_view_if_needed()
    page.evaluate(WATCH)
    return page


def test_sliders_and_clicks_move_the_figures_in_time(live):
    of = {name: live.locator(".widget-slider", has_text=name).locator(".noUi-handle") for name in ("round t", "γ")}
    waits = [_press(live, of["round t"], "ArrowRight") for _ in range(MOVES)]
    waits += [_press(live, of["γ"], "ArrowLeft") for _ in range(MOVES)]
    print(f"slider to figure: median {statistics.median(waits):.0f} ms, slowest {max(waits):.0f} ms")
    for letter in "ABC":
        live.get_by_role("button", name=f"I like {letter}").click()
    live.get_by_role("button", name="retrain").click()
    live.get_by_text("3 clicks, round 1").wait_for(timeout=10_000)
    _shoot(live, "08_live")
    assert statistics.median(waits) < 3 * PROMPT


@pytest.mark.parametrize(("panel", "width"), [("reward", SIZE["width"]), ("density", NARROW)])
def test_the_centre_follows_the_mouse_in_time(live, panel, width):
    live.set_viewport_size(SIZE | {"width": width})
    picture = live.locator(PICTURE).first
    picture.scroll_into_view_if_needed()
    axis = getattr(drawn(stage.LoopStage, explorer.path(explorer.Setting())), panel).axes
    before = picture.get_attribute("src")
    live.mouse.move(*_at(picture, axis, (2.0, 2.0)))
    live.mouse.down()
    way = [(2.0 - 3.0 * step / MOVES, 2.0 - 2.5 * step / MOVES) for step in range(1, MOVES + 1)]
    waits = [_timed(live, lambda point=point: live.mouse.move(*_at(picture, axis, point))) for point in way]
    live.mouse.up()
    live.mouse.move(*_at(picture, axis, (0.0, 0.0)))  # let go: nothing follows
    print(f"mouse on {panel} to figure: median {statistics.median(waits):.0f} ms, slowest {max(waits):.0f} ms")
    live.wait_for_timeout(5 * PROMPT)
    _shoot(live, f"08_dragged_{panel}")
    assert picture.get_attribute("src") != before
    assert _readouts(live) == pytest.approx(way[-1], abs=EXACT)
    assert statistics.median(waits) < 3 * PROMPT


def test_a_swift_drag_ends_where_the_mouse_was_let_go(live):
    live.set_viewport_size(SIZE)
    picture = live.locator(PICTURE).first
    picture.scroll_into_view_if_needed()
    axis = drawn(stage.LoopStage, explorer.path(explorer.Setting())).reward.axes
    live.mouse.move(*_at(picture, axis, (-2.0, -2.0)))
    live.mouse.down()
    live.evaluate("() => { window.seen = []; window.acted = []; }")
    live.mouse.move(*_at(picture, axis, (1.0, -1.5)), steps=10 * MOVES)
    live.mouse.up()
    live.wait_for_timeout(10 * PROMPT)
    moves, pictures, late = live.evaluate("() => [acted.length, seen.length, seen.at(-1) - acted.at(-1)]")
    print(f"{moves} moves, {pictures} pictures, the last {late:.0f} ms after the last move")
    assert _readouts(live) == pytest.approx((1.0, -1.5), abs=EXACT / 2)  # this picture is not shrunk
    assert pictures < moves  # places in between are left out
    assert late < 3 * PROMPT  # nothing had queued up


def test_a_letter_in_the_picture_can_be_clicked(live):
    live.set_viewport_size(SIZE)
    live.get_by_role("button", name="start anew").click()
    live.get_by_text("0 clicks, round 0").wait_for(timeout=10_000)
    picture = live.locator(PICTURE).nth(1)
    front = drawn(controls.TasteExplorer)  # what the page shows: menus depend on the seed alone
    letter = front._stage.letters[2]
    for clicks in ("1 click", "2 clicks"):
        picture.click(position=_on(picture, letter.axes, letter.get_position()))
        live.get_by_text(f"{clicks}, round 0").wait_for(timeout=10_000)
        front.likes[2].click()
    picture.click(position=_on(picture, letter.axes, (2.9, -2.9)))  # no letter here
    live.wait_for_timeout(3 * PROMPT)
    assert live.get_by_text("2 clicks, round 0").count() == 1
    _shoot(live, "08_clicked")


def drawn(front: type, *options):
    """A front or a stage as the notebook makes it, with the figures' style."""
    with matplotlib.rc_context():
        figures.use_style()
        return front(*options)


def _on(picture, axis, point: tuple[float, float]) -> dict[str, float]:
    """Where a point of an axis lies on a picture as wide as the page shows it, from its upper left corner."""
    size = picture.bounding_box()
    across, up = axis.transData.transform(point)
    whole = axis.figure.canvas.get_width_height()
    return {"x": across / whole[0] * size["width"], "y": (1 - up / whole[1]) * size["height"]}


def _at(picture, axis, point: tuple[float, float]) -> tuple[float, float]:
    """The same from the corner of the page, in whole pixels, as mice move."""
    corner, inside = picture.bounding_box(), _on(picture, axis, point)
    return round(corner["x"] + inside["x"]), round(corner["y"] + inside["y"])


def _readouts(page) -> tuple[float, float]:
    """Where the sliders of the centre say that they stand."""
    of = (page.locator(".widget-slider", has_text=f"centre {x}").locator(".widget-readout") for x in ("x₁", "x₂"))
    return tuple(float(readout.inner_text().replace("−", "-")) for readout in of)


def _press(page, handle, key: str) -> float:
    """Press a key on a slider; milliseconds until the picture changed."""
    handle.focus()
    return _timed(page, lambda: handle.press(key))


def _timed(page, act: Callable[[], None]) -> float:
    """Milliseconds from an act of the reader until the picture changed."""
    page.evaluate("() => { window.seen = []; window.acted = []; }")
    act()
    page.wait_for_function("() => window.seen.length > 0", timeout=10_000, polling=5)
    page.wait_for_timeout(50)
    return page.evaluate("() => window.seen[0] - window.acted[0]")
