"""Sliders and buttons around `lib.stage`, for a live JupyterLab; elsewhere the same picture, standing still."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace

import ipywidgets as ui
from ipyevents import Event
from IPython.display import Image
from matplotlib.axes import Axes

from lib import explorer, toy
from lib.checks import require
from lib.explorer import ROUNDS, STORIES, Setting
from lib.figures import LETTERS
from lib.metrics import total_variation
from lib.stage import DPI, LoopStage, MenuStage, so_far
from lib.taste import Curator

HEADLESS = "CURATED_LOOPS_HEADLESS"  # set where nobody can move a slider: run_all.sh does so
MENUS = [(str(k), k) for k in (1, 2, 3, 4, 6, 8, 16, 64)] + [("∞", math.inf)]
RATIOS = [(f"{lam:g}", lam) for lam in (0.1, 0.25, 0.3, 0.5, 1.0, 2.0, 4.0, 10.0)] + [("∞", math.inf)]
PLACES = [(f"{n / 20:.2f}", n / 20) for n in range(-50, 51)]  # at which a coordinate of the centre can stand
BUTTON = {"width": "auto", "min_width": "3.5em"}  # the layout of a button
WRAPPED = {"flex_flow": "row wrap"}  # the layout of a row that a narrow window breaks and does not cut off
PACE = 50  # milliseconds between two places of a dragged centre: about a redraw


def show(front: "type[LoopExplorer] | type[TasteExplorer]", **options) -> ui.Widget | Image:
    """The widget made with these options; where nobody can use it, its first picture (and no widget at all)."""
    if not os.environ.get(HEADLESS):
        return front(**options).box
    return Image(front.still(**options), width=front.width, alt=front.alt)


class LoopExplorer:
    """Sliders for K, lambda, gamma, r_min, the rewarded centre and the round over the exact loop.

    The centre can also be dragged in the picture.

    Attributes:
        box: the widget.
        image: the picture in it.
        mouse: what the mouse does on the picture.
        milliseconds: how long each redraw took, from the slider's message to the new picture.
    """

    alt = "Reward, density after some rounds, and E[e^r] and KL over rounds, for one setting of the sliders."
    width = round(LoopStage.width * DPI)

    def __init__(self, setting: Setting = STORIES["with real data"], t: int = 3):
        self.milliseconds: list[float] = []
        self._stage = LoopStage(explorer.path(setting))
        self._told = True  # False while several sliders move at once
        self._held: Axes | None = None  # the panel on which the centre is being dragged
        told = next((name for name, known in STORIES.items() if known == setting), None)
        self.story = ui.Dropdown(options=list(STORIES), value=told, description="story")
        self.data = ui.ToggleButtons(options=list(toy.TOYS), description="data", style={"button_width": "7em"})
        self.k = ui.SelectionSlider(options=MENUS, description="K")
        self.lam = ui.SelectionSlider(options=RATIOS, description="λ")
        self.gamma = _slider("γ", 0.0, 10.0, 0.5)
        self.r_min = _slider("r_min", 0.0, 1.5, 0.05)
        # No FloatSliders: the browser answers a value with its own rounding of it, and such an answer to a place
        # on the way of a drag would undo the place where it ended. It sends these as whole numbers.
        self.x1 = ui.SelectionSlider(options=PLACES, description="centre x₁")
        self.x2 = ui.SelectionSlider(options=PLACES, description="centre x₂")
        self.t = ui.IntSlider(t, 0, ROUNDS, description="round t")
        self.says = ui.HTML()
        self.image = ui.Image(format="png", layout={"max_width": f"{self.width}px"})
        self._set(setting)
        self._moving = [self.data, self.k, self.lam, self.gamma, self.r_min, self.x1, self.x2, self.t]
        for slider in self._moving:
            slider.observe(self._moved, "value")
        self.story.observe(self._chose, "value")
        knobs = [self.story, self.t, self.k, self.lam, self.gamma, self.r_min, self.x1, self.x2]
        self.box = ui.VBox([self.data, ui.HBox(knobs, layout=WRAPPED), self.says, self.image])
        self.mouse = self._listen()
        self._paint()

    @staticmethod
    def still(setting: Setting = STORIES["with real data"], t: int = 3) -> bytes:
        """The picture at a setting, a PNG."""
        path = explorer.path(setting)
        return LoopStage(path).png(path, t)

    @property
    def setting(self) -> Setting:
        """Where the sliders stand."""
        centre = (self.x1.value, self.x2.value)
        return Setting(self.data.value, self.k.value, self.lam.value, self.gamma.value, self.r_min.value, centre)

    def _set(self, setting: Setting) -> None:
        self._told = False
        self.x1.value, self.x2.value = map(_on_scale, setting.centre)
        for name in ("data", "k", "lam", "gamma", "r_min"):
            getattr(self, name).value = getattr(setting, name)
        self._told = True

    def _listen(self) -> Event:
        # Moves come as the trait `xy`, not as events: the browser keeps back all but the newest value of a trait
        # until the kernel has answered the one before, so that places cannot queue up behind a slow redraw.
        ends = ["mousedown", "mouseup", "mouseleave"]
        watch = {"watched_events": ends, "xy_coordinate_system": "data", "prevent_default_action": True}
        mouse = Event(source=self.image, **watch, wait=PACE, throttle_or_debounce="throttle")
        mouse.on_dom_event(self._grab)
        mouse.observe(lambda change: self._drag(*change["new"]), "xy")
        return mouse

    def _grab(self, event: dict) -> None:
        at = event["dataX"], event["dataY"]  # pixels of the picture, whatever its size on the screen
        if event["event"] == "mousedown" and event["button"] == 0:
            self._held = self._stage.panel(*at)
        self._drag(*at)
        if event["event"] != "mousedown":
            self._held = None

    def _drag(self, *at: float) -> None:
        if self._held is None or not at:  # xy is emptied when the picture is shown anew
            return
        place = self._stage.place(self._held, *at)
        centre = tuple(map(_on_scale, place))
        if centre != self.setting.centre:
            self._set(replace(self.setting, centre=centre))
            self.story.value = None
            self._paint()

    def _chose(self, change: dict) -> None:
        if change["new"]:
            self._set(STORIES[change["new"]])
            self._paint()

    def _moved(self, change: dict) -> None:
        if not self._told:
            return
        if change["owner"] is self.data:  # the other data set's reward sits elsewhere
            home = explorer.at_home(self.data.value)
            self._set(replace(self.setting, centre=home.centre, r_min=home.r_min))
        if change["owner"] is not self.t:
            self.story.value = None  # so that it can be chosen again
        self._paint()

    def _paint(self) -> None:
        began = time.perf_counter()
        path = explorer.path(self.setting)
        self.image.value = self._stage.png(path, self.t.value)
        self.says.value = _sentence(path, self.t.value)
        self.milliseconds.append(1000 * (time.perf_counter() - began))


class TasteExplorer:
    """A menu of lettered points: click the one you like, or its button, and see what the loop makes of it.

    Attributes:
        box: the widget.
        image: the picture in it.
        mouse: clicks on the picture.
        curator: the clicks and the loop so far; read `curator.weights` or `curator.path` in a cell of your own.
    """

    alt = "A menu of lettered points on the density, the reward learned from clicks, the density a round later."
    width = round(MenuStage.width * DPI)

    def __init__(self, data: str = "gaussians", k: int = 4, lam: float = math.inf, seed: int = 0):
        require(2 <= k <= len(LETTERS), "k", k, f"in 2..{len(LETTERS)}: each sample of a menu has a letter")
        self._start = lambda: Curator(data, k, lam, seed)
        self.curator = self._start()
        self._stage = MenuStage(self.curator)
        self.says = ui.HTML()
        self.image = ui.Image(format="png", layout={"max_width": f"{self.width}px"})
        self.likes = [ui.Button(description=f"I like {LETTERS[i]}", layout=BUTTON) for i in range(k)]
        self.go = ui.Button(description="retrain: next round", button_style="primary", layout=BUTTON)
        self.anew = ui.Button(description="start anew", layout=BUTTON)
        for place, button in enumerate(self.likes):
            button.on_click(lambda _, place=place: self._like(place))
        self.go.on_click(lambda _: self._act(lambda: self.curator.take_round()))
        self.anew.on_click(lambda _: self._act(self._restart))
        self.box = ui.VBox([self.image, ui.HBox([*self.likes, self.go, self.anew], layout=WRAPPED), self.says])
        self.mouse = Event(source=self.image, watched_events=["click"], prevent_default_action=True)
        self.mouse.on_dom_event(self._clicked)
        self._paint()

    @staticmethod
    def still(data: str = "gaussians", k: int = 4, lam: float = math.inf, seed: int = 0) -> bytes:
        """The picture before any click, a PNG."""
        curator = Curator(data, k, lam, seed)
        return MenuStage(curator).png(curator)

    def _clicked(self, event: dict) -> None:
        place = self._stage.letter(event["dataX"], event["dataY"])
        if place is not None:
            self._like(place)

    def _like(self, place: int) -> None:
        self._act(lambda: self.curator.click(place))

    def _restart(self) -> None:
        self.curator = self._start()

    def _act(self, action: Callable[[], None]) -> None:
        action()
        self._paint()

    def _paint(self) -> None:
        curator = self.curator
        self.image.value = self._stage.png(curator)
        gone = total_variation(curator.path[-1], curator.path[0])
        self.says.value = f"{so_far(curator)}: {gone:.0%} of the mass has moved"


def _slider(name: str, low: float, high: float, step: float) -> ui.FloatSlider:
    return ui.FloatSlider(min=low, max=high, step=step, description=name, readout_format=".2f")


def _on_scale(value: float) -> float:
    """The nearest of PLACES."""
    return min((place for _, place in PLACES), key=lambda place: abs(place - value))


def _sentence(path: explorer.Path, t: int) -> str:
    now = path.curves.iloc[t]
    bound = f", at most {path.bound:.2f} by Theorem 2.4" if 0 < path.bound < math.inf else ""
    return (
        f"After round {t}: E[e<sup>r</sup>] = <b>{now['mean']:.3f}</b> (at first {path.curves['mean'][0]:.3f}), "
        f"KL(p<sub>t</sub> ‖ p<sub>0</sub>) = <b>{now['kl_start']:.3f}</b> nats{bound}"
    )
