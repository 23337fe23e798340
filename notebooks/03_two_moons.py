# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Two moons: the same loop on a curved support
#
# **Paper figure:** the appendix figure on two moons (rows: curated only / with real data; columns: rounds).
#
# **Shows:** that collapse and stability do not depend on separate modes. The data lie on two curves; the rewarded
# region is a piece of one of them.
#
# **Needs:** nothing beyond the installation. One to two minutes on one CPU core the first time, seconds after
# that.
#
# Loop, arms and curves are those of notebook 02, which explains them; here we say what changes.

# %% tags=["parameters"]
profile = "quick"  # a file in profiles/: the scale of the experiment
seed = 0  # first of the consecutive seeds; each runs every arm
overrides = {}  # single settings by dotted key, e.g. {"toy.rounds": 5}

# %%
import pandas as pd
from IPython.display import Markdown

from lib import claims, experiments, figures, products, profiles, toy

figures.use_style()
settings = profiles.load(profile, overrides)
data = toy.moons()
pd.Series(settings.toy.model_dump(), name="toy settings").to_frame()

# %% [markdown]
# ## The data and the reward
#
# Each moon is a half circle with Gaussian noise across it. The reward is flat, $r = 0$, within $r_{\min}$ of the
# top of the upper moon and falls linearly outside. To count what survives, each moon is cut into three arcs of
# equal length: six groups, of which one holds the rewarded point.

# %%
print(f"noise {data.std}, rewarded centre ({data.centre[0]:.2f}, {data.centre[1]:.2f}), r_min {data.r_min}")

# %%
experiment = experiments.toy_experiment("moons", settings, seed)

# %% [markdown]
# ## Samples by round
#
# Expect the top row to shrink to the rewarded arc, the middle row to keep both moons with more weight at the top
# of the upper one, and the bottom row to keep both and to fray a little.

# %%
shown = [t for t in (0, 1, 2, 3, 5, 10) if t <= settings.toy.rounds]
toys = settings.toy
about = f"two moons, {figures.setting(toys.k, toys.lam, toys.gamma)}, profile {settings.name}"
clouds = {arm: [runs[0].samples(t).numpy() for t in shown] for arm, runs in experiment.runs.items()}
figure = figures.point_rows(clouds, shown, [data.centre], data.r_min, f"{about}, seed {seed}")
points = experiments.stored_points(experiment, shown)
alt = "Samples by round. Curated only: the top of the upper moon is left. With real data both moons stay."
products.figure(figure, "03_samples", settings, seed=seed, numbers=points, alt=alt, run=experiment.provenance)

# %% [markdown]
# *Samples of the first seed; the circle is the flat top of the reward.*
#
# ## Against the exact dynamics
#
# There are no gaps here that mass would have to jump. Points just outside the flat top lose against those inside
# by little, so the exact collapse has a slow tail: the mass on the flat top approaches 1 like $1/t$ (notebook 01),
# and the trained loop should follow.

# %%
columns = {
    "rewarded_share": "share of rewarded arc",
    "mean_reward": "mean reward $E[r]$",
    "mean_exp_reward": "$E[e^r]$",
    "var_exp_reward": "$\\mathrm{Var}[e^r]$",
    "live_groups": "arcs with $\\geq$ 1 %",
    "top_mass": "mass on the flat top",
    "in_mode_std": "std in rewarded arc",
    "tv_to_exact": "TV to exact shares",
}
histories = {arm: experiment.histories(arm) for arm in experiment.runs}
seeds = products.seed_list(experiment.provenance["seeds"])
figure = figures.curves(histories, experiment.exact, columns, 4, experiment.finite, f"{about}, {seeds}")
numbers = experiments.long_table(experiment)
alt = "Eight curves over rounds, three arms: shares and rewards lie near the exact ones, widths do not."
products.figure(figure, "03_curves", settings, seed=seed, numbers=numbers, alt=alt, run=experiment.provenance)

# %% [markdown]
# *Mean over seeds, band from the least to the greatest seed, exact dynamics dashed; dotted, the least and the
# greatest of twenty loops of a perfect model on as many samples (notebook 02).*
#
# The last round in numbers:

# %%
ends = claims.ends(experiment, ["rewarded_share", "mean_exp_reward", "var_exp_reward", "top_mass", "in_mode_std"])
ends.round(4)

# %%
gaps = {arm: claims.worst_gap(experiment, arm) for arm in experiment.runs}
stop, spread, width = (ends.loc["curated", c] for c in ("mean_exp_reward", "var_exp_reward", "in_mode_std"))
Markdown(
    f"Over all rounds and seeds the share of the rewarded arc keeps within {gaps['curated']:.3f} (curated only) "
    f"and {gaps['mixed']:.3f} (with real data) of its exact value. With curated data only $E[e^r]$ stops at "
    f"{stop.measured:.3f}, where the exact loop comes to {stop.exact:.3f} and none of twenty perfect ones "
    f"ends below {stop['perfect least']:.3f}; $\\mathrm{{Var}}[e^r]$ ends at {spread.measured:.4f}, "
    f"{spread.measured / spread['perfect greatest']:.0f} times the greatest of twenty perfect loops; and the std "
    f"in the rewarded arc at {width.measured:.3f}, where the exact one is {width.exact:.3f} and that of no "
    f"perfect loop below {width['perfect least']:.3f}."
)

# %%
wander = experiment.histories("control").query("round == round.max()")["tv_to_exact"]
chance, width = claims.by_chance(experiment, data.rewarded), ends.loc["control", "in_mode_std"]
Markdown(
    f"Without choice the shares of the arcs end {wander.mean():.3f} from the exact ones in the mean of the seeds "
    f"(total variation), and {wander.max():.3f} at the worst. A perfect model's loop ends at {chance.usual:.3f} "
    f"on average; of sets of as many perfect loops, one in twenty has a mean beyond {chance.mean:.3f}, and one in "
    f"twenty a worst loop beyond {chance.apart:.3f}. The std in the rewarded arc ends at {width.measured:.3f} "
    f"there, where the exact one is {width.exact:.3f}."
)

# %%
left = experiment.histories("curated").query("round == round.max()").filter(like="share_")
exact = experiment.exact["curated"].filter(like="share_").iloc[[-1]]
pd.concat([left, exact]).round(4).set_axis([*(f"seed {s}" for s in range(seed, seed + len(left))), "exact"])

# %% [markdown]
# *Shares of the six arcs after the last round, curated only. Columns are arcs, three a moon, along the curve.*
#
# ## What we find
#
# - **Collapse onto a piece of a curve.** The curated-only loop ends on the rewarded arc, and the shares get there
#   on the exact schedule. $E[e^r]$ and $\mathrm{Var}[e^r]$ do not: they stop short of where a perfect model comes.
#   In rounds 3 to 9 one seed or more counts a second arc above 1 %, in three of these rounds all of them (second
#   row, first panel). It is the upper end of the lower moon: the circle of the flat top reaches a little past the
#   line halfway between the two, and points beyond that line are counted with the lower moon. A perfect model on
#   as many samples counts two in some loops as well. So the count of live arcs hangs on where the cut is made, and
#   the verdict below asks instead whether the rewarded arc takes over.
# - **Real data holds the loop.** Both moons stay, and $E[e^r]$ ends well above its start. It rises somewhat later
#   than the exact one (first row, third panel) and stays a little below it.
# - **Without choice the shares wander.** In the control (grey) the shares of the arcs drift away from their exact,
#   constant values, further and further (last panel): the worst of the three further than in nineteen of twenty
#   sets of a perfect model's loops, and their mean, too. Model error has a part in it. The rewarded arc loses in
#   all three seeds, by about as much as chance can do. Choice and real data both pull a loop back to where the
#   exact one is; left alone, draws and errors add up.
# - **Width.** From round 4 on the curated-only loop is narrower in its arc than any of the twenty perfect loops,
#   in all seeds, while the control does not narrow. So it is no matter of the sampler alone. The reward is flat on
#   its top and cannot see the shape of the patch there; what sharpens it once choices are made, we have not
#   traced. Here model error can pass for collapse, which is why collapse itself is judged by shares below.
#
# **Where we differ from the paper.** As in notebook 02, a round keeps far fewer samples than the $\lambda n$ of
# Algorithm 1. The moons' scale and noise, the reward's centre and $r_{\min}$, sample counts, $K$ and $\lambda$ are
# not stated there; ours are in the table at the top. The arcs, the $K = 1$ control, the exact curves and the
# perfect model's are our addition.

# %% tags=["nbval-check-output"]
verdicts = claims.toy_claims(experiment, data, separate=False)
hangs = products.as_stored(settings, seed, "quick")  # 0.072, by chance 0.068
near = ["without choice (K = 1) the rewarded share changes no more than by chance"] if hangs else []
products.verdicts(verdicts, "03_two_moons", settings, seed=seed, run=experiment.provenance, unsettled=near)
