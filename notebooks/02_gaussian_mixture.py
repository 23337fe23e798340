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
# # Eight Gaussian modes: collapse, and what real data prevents
#
# **Paper figure:** the appendix figure on a mixture of Gaussians (rows: curated only / with real data; columns:
# rounds).
#
# **Shows:** a diffusion model retrained on its own samples after people picked the ones they like, with and
# without real data mixed in, held against the exact dynamics of the same loop.
#
# **Needs:** nothing beyond the installation. One to two minutes on one CPU core the first time, seconds after
# that.
#
# The loop is Algorithm 1. In each round the model draws samples; menus of $K$ of them are shown to a "user", who
# keeps one by Luce's choice rule, $P(\text{keep } x_k) = e^{r(x_k)} / \sum_j e^{r(x_j)}$; the model is then
# trained on what was kept.

# %% tags=["parameters"]
profile = "quick"  # a file in profiles/: the scale of the experiment
seed = 0  # first of the consecutive seeds; each runs every arm
overrides = {}  # single settings by dotted key, e.g. {"toy.rounds": 5}

# %%
import pandas as pd
from IPython.display import Markdown

from lib import claims, experiments, figures, products, profiles, toy
from lib.plan import fit_lengths

figures.use_style()
settings = profiles.load(profile, overrides)
data = toy.gaussians()
pd.Series(settings.toy.model_dump(), name="toy settings").to_frame()

# %% [markdown]
# ## The data and the reward
#
# The table holds the profile's settings; `profiles/quick.yaml` says what each means. Eight modes sit on a circle
# of radius 2. The reward is flat and maximal, $r = 0$, within $r_{\min}$ of one centre $\mu^*$ and falls linearly
# outside: $r(x) = -\gamma \max(0, \lVert x - \mu^* \rVert - r_{\min})$. The paper gives the circle, $\gamma = 10$
# and the form of $r$; mode width and $r_{\min}$ are our choice:

# %%
print(f"mode width {data.std}, rewarded centre ({data.centre[0]:.2f}, {data.centre[1]:.2f}), r_min {data.r_min}")

# %% [markdown]
# ## Three arms
#
# - **curated only** ($\lambda = \infty$): the next model sees nothing but chosen samples. Theorem 2.1 says that
#   its law collapses onto the set where the reward is maximal.
# - **with real data**: a minibatch row is a chosen sample with probability $\lambda / (1 + \lambda)$, else a real
#   point. In the paper's toy figures such a loop stays near the data. If $p_0 = p_{\mathrm{ref}}$, its $E[e^r]$
#   stays above its start by Theorem 2.3, and Theorem 2.4 bounds its distance from the data where $\lambda <
#   1/(K-1)$; our $p_0$ is fitted, so the first holds only approximately, and with this $\lambda$ the second says
#   nothing.
# - **$K = 1$ control**: menus of one. Nothing is chosen, so the exact dynamics stands still; whatever moves here
#   is the model's own error or chance, compounded round after round.
#
# Each arm runs once for each seed; all arms of a seed start from one and the same $p_0$, and each round goes on
# from the weights of the last. (The control measures $p_0$ on $K$ times fewer samples, so its first points differ
# by chance.)

# %%
experiment = experiments.toy_experiment("gaussians", settings, seed)

# %% [markdown]
# ## Samples by round
#
# Expect the top row to lose seven modes within a few rounds, the middle row to keep all eight with more weight on
# the rewarded one, and the bottom row to keep all eight, too, and to spread a little with every round: model
# error.

# %%
shown = [t for t in (0, 1, 2, 3, 5, 10) if t <= settings.toy.rounds]
toys = settings.toy
about = f"eight Gaussians, {figures.setting(toys.k, toys.lam, toys.gamma)}, profile {settings.name}"
clouds = {arm: [runs[0].samples(t).numpy() for t in shown] for arm, runs in experiment.runs.items()}
figure = figures.point_rows(clouds, shown, [data.centre], data.r_min, f"{about}, seed {seed}")
points = experiments.stored_points(experiment, shown)
alt = "Samples by round. Curated only: one of eight modes is left. With real data all stay; the control spreads."
products.figure(figure, "02_samples", settings, seed=seed, numbers=points, alt=alt, run=experiment.provenance)

# %% [markdown]
# *Samples of the first seed; the circle is the flat top of the reward. Profile and seeds: the table and the cell
# at the top.*
#
# ## Against the exact dynamics
#
# With infinitely many samples and a perfect model, each round multiplies the density by a weight that can be
# computed exactly (notebook 01). The dashed lines are that computation on a grid, with no free parameter:
# agreement is a test of the whole loop, from the choice rule to the sampler.
#
# A loop that keeps `n_keep` samples a round cannot follow them to the last digit: it draws, and what it draws is
# its next training set. So we also let a *perfect* model, one that reproduces its training set exactly, run on as
# many samples (`lib/finite.py`): the exact step, then `n_keep` draws. Dotted are the least and the greatest of
# twenty such loops. Within the dots a trained loop may just be unlucky. Beyond them chance is a poor explanation,
# but it is not ruled out: of three perfect loops one or more leaves such dots on a given side of a given round in
# 13 % of cases (3 in 23). What counts is that all seeds leave them, round after round.

# %%
columns = {
    "rewarded_share": "share of rewarded mode",
    "mean_reward": "mean reward $E[r]$",
    "mean_exp_reward": "$E[e^r]$",
    "var_exp_reward": "$\\mathrm{Var}[e^r]$",
    "live_groups": "modes with $\\geq$ 1 %",
    "top_mass": "mass on the flat top",
    "in_mode_std": "std in rewarded mode",
    "tv_to_exact": "TV to exact shares",
}
histories = {arm: experiment.histories(arm) for arm in experiment.runs}
seeds = products.seed_list(experiment.provenance["seeds"])
figure = figures.curves(histories, experiment.exact, columns, 4, experiment.finite, f"{about}, {seeds}")
numbers = experiments.long_table(experiment)
alt = "Eight curves over rounds: with choice, shares and rewards lie near the exact ones; the control's std grows."
products.figure(figure, "02_curves", settings, seed=seed, numbers=numbers, alt=alt, run=experiment.provenance)

# %% [markdown]
# *Mean over seeds, band from the least to the greatest seed, exact dynamics dashed, twenty loops of a perfect
# model dotted. Flat top: within $r_{\min}$ of $\mu^*$. Std: width of the rewarded mode. TV: half the L1 distance
# between measured and exact shares of the modes. From round 3 on all three seeds of the control are wider than any
# of the twenty (second row, third panel): model error, since nothing is chosen there.*
#
# The last round in numbers:

# %%
ends = claims.ends(experiment, ["rewarded_share", "mean_exp_reward", "var_exp_reward", "top_mass", "in_mode_std"])
ends.round(4)

# %%
gaps = {arm: claims.worst_gap(experiment, arm) for arm in experiment.runs}
stop, spread = (ends.loc["curated", column] for column in ("mean_exp_reward", "var_exp_reward"))
Markdown(
    f"Over all rounds and seeds the share of the rewarded mode keeps within {gaps['curated']:.3f} (curated only) "
    f"and {gaps['mixed']:.3f} (with real data) of its exact value. With curated data only $E[e^r]$ stops at "
    f"{stop.measured:.3f}, where the exact loop comes to {stop.exact:.3f} and none of twenty perfect ones "
    f"ends below {stop['perfect least']:.3f}, and $\\mathrm{{Var}}[e^r]$ ends at {spread.measured:.4f}, "
    f"{spread.measured / spread['perfect greatest']:.0f} times the greatest of twenty perfect loops."
)

# %%
wander = experiment.histories("control").query("round == round.max()")["tv_to_exact"]
chance = claims.by_chance(experiment, data.rewarded)
Markdown(
    f"Without choice the shares of the modes end {wander.mean():.3f} from the exact ones in the mean of the seeds "
    f"(total variation), and {wander.max():.3f} at the worst. A perfect model's loop ends at {chance.usual:.3f} "
    f"on average; of sets of as many perfect loops, one in twenty has a mean beyond {chance.mean:.3f}, and one in "
    f"twenty a worst loop beyond {chance.apart:.3f}."
)

# %% [markdown]
# ## Where the trained loop leaves the exact curve, and why
#
# **Fit length.** A round that trains too briefly has not yet become the law of its training set: the loop lags
# behind. Below, the curated-only arm with 2 and 5 steps a round (at `quick`) beside all of the profile's. Expect
# the gap to shrink as the fit grows longer.
#
# **Sampler variance.** A reverse step of a diffusion model adds noise of variance $\beta_t$ (plain ancestral
# sampling) or the smaller posterior variance, which is exact only for data at a single point. Too much noise
# widens every mode a little, too little narrows it, and a self-consuming loop compounds either; narrowing would
# look like the collapse that the theorem predicts, and is not it. We look at the control, where nothing is chosen
# and the exact width is constant. Dotted is again the perfect model.

# %%
lengths = fit_lengths(settings.toy.round_steps)
by_length = experiments.toy_study("gaussians", settings, seed, "round_steps", lengths, "curated")
by_sampler = experiments.toy_study("gaussians", settings, seed, "variance", ("beta", "posterior"), "control")

# %%
departures = {
    f"curated only ($K = {toys.k}$): steps a round": ("rewarded_share", "curated", by_length),
    "$K = 1$ control: sampler variance": ("in_mode_std", "control", by_sampler),
}
exact, chance = experiment.exact, experiment.finite
panels = {
    heading: (column, {value: e.histories(arm) for value, e in study.items()}, exact[arm], chance[arm])
    for heading, (column, arm, study) in departures.items()
}
title = f"eight Gaussians, $\\gamma = {toys.gamma:g}$, profile {settings.name}, seed {seed}"
figure = figures.departures(panels, columns, title)
studies = [*by_length.items(), *by_sampler.items()]
numbers = pd.concat([experiments.long_table(e, setting=str(value)) for value, e in studies])
alt = "Left: short fits lag behind the exact share. Right: the control's std, above the dots and mostly within."
run = experiments.provenance(*(study for _, study in studies))
products.figure(figure, "02_departures", settings, seed=seed, numbers=numbers, alt=alt, run=run)

# %%
gaps = {f"largest gap, {n} steps": claims.worst_gap(e, "curated") for n, e in by_length.items()}
stds = {f"last std, variance {v}": e.histories("control")["in_mode_std"].iloc[-1] for v, e in by_sampler.items()}
for what, value in (gaps | stds).items():
    print(f"{what:28} {value:.3f}")

# %% [markdown]
# *One seed. Left: a fit too short to follow its training set lags behind the exact dynamics. Right: the width of
# the rewarded mode without any choice, for both reverse variances.*
#
# ## What we find
#
# - **Collapse.** With curated data only, one mode is left after a few rounds. The shares follow the schedule that
#   the exact dynamics sets: for them the choice rule alone is enough. $E[e^r]$ and $\mathrm{Var}[e^r]$ go the way
#   of Lemma 2.2, but stop short of where a perfect model would come: some points stay outside the flat top, round
#   after round, and that the choice rule does not explain.
# - **Real data holds the loop.** With real points in every minibatch all eight modes survive every round, and
#   $E[e^r]$ settles at a value several times its start: what people like gains ground without driving out the
#   rest.
# - **Model error is visible, and it is not curation.** Without any choice the modes widen over the rounds, from
#   round 3 on in all seeds beyond all twenty perfect loops (second row, third panel). Curation works against the
#   widening in the rewarded mode, whose outer points are chosen less often. Smaller errors show in every arm:
#   $p_0$ itself is wider than the data, the mixed loop stays so, and the curated-only loop, at its end, keeps
#   about as little on the flat top as the worst of the twenty (second row, second panel), and more variance of
#   $e^r$ than any.
# - **The control wanders about as far as chance goes.** Its shares drift (last panel). The worst seed ends within
#   what chance does, the mean of the three a little beyond it (both numbers above). Either is so near its line
#   that another processor's rounding may decide, and the table below gives no verdict. Most of the distance is
#   chance; that a part is model error is likely, not shown. Real data hold the shares.
# - **The sampler is part of that error.** With plain ancestral noise the width leaves the dots in every round;
#   with the posterior variance it stays within them in ten rounds of eleven, above the exact width in all. This is
#   one seed: from it one cannot tell whether anything beside the sampler widens the modes. We keep plain ancestral
#   sampling as the default since it is the plain DDPM; for the width alone the posterior variance would have been
#   the better choice here. Nor does plain ancestral sampling always widen: in notebook 03, which uses it too, the
#   curated-only loop ends too narrow (there not by the sampler alone).
#
# **Where we differ from the paper.** Mode width, $r_{\min}$, sample counts, $K$ and $\lambda$ are not stated
# there; ours are in the table at the top. Algorithm 1 keeps $\lambda n$ samples a round for $n$ real ones; we keep
# `n_keep` = 2,048, with $n$ = `n_real` = 50,000 and $\lambda = 1$, and mix in the ratio $\lambda$ all the same. So
# in a minibatch of the mixed loop each curated sample weighs $\lambda n / \texttt{n\_keep} \approx 24$ times as
# much as a real one, and the draw of few samples adds chance that Algorithm 1 would not have. A round goes on from
# the weights of the last, where Algorithm 1 only says that a model is trained. With $K = 4$ and $\lambda = 1$ the
# loop lies outside the range $\lambda < 1/(K-1)$ where Theorem 2.4 bounds its distance from the data; that no mode
# dies needs no theorem, since half of every round is real (notebook 01). The $K = 1$ control, the exact curves and
# the perfect model's are our addition. The loop without choice is the subject of Bertrand et al. (ICLR 2024) and,
# as "MAD", of Alemohammad et al. (ICLR 2024): what our control shows is what they study.

# %% tags=["nbval-check-output"]
verdicts = claims.toy_claims(experiment, data, separate=True)
hangs = products.as_stored(settings, seed, "quick")  # 0.116, by chance 0.127
near = ["without choice (K = 1) the shares end no further off than by chance"] if hangs else []
run = experiment.provenance
products.verdicts(verdicts, "02_gaussian_mixture", settings, seed=seed, run=run, unsettled=near)
