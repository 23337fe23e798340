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
# # The curated loop, exactly
#
# A generative model is trained on its own samples, after people have picked the ones they like. Round after round.
# Where does that lead? Before any network is trained, this notebook follows the loop *exactly*: no sampling error,
# no training error, only the mathematics of [arXiv:2407.09499](https://arxiv.org/abs/2407.09499).
#
# **Paper figures:** Figure 1 (how curation happens) and the appendix heat maps (reward level sets, initial
# density, limit density).
#
# **Shows:** one choice, the exact dynamics, and every lemma and theorem with its bound beside its value.
#
# **Needs:** nothing beyond the installation. Under half a minute on one CPU core.

# %% tags=["parameters"]
profile = "quick"  # a file in profiles/: the scale of the experiment
seed = 0  # of the menu drawn in section 1 (all the rest is exact)
overrides = {}  # profile values to change, by dotted key, e.g. {"population.grid": 128} (cells a side)

# %%
import math

import pandas as pd
from IPython.display import Markdown

from lib import claims, figures, parametric, products, profiles, statements
from lib.curation import k_choice
from lib.population import limit
from lib.rewards import distance
from lib.seeds import derive

profile = profiles.load(profile, overrides)
figures.use_style()
pd.options.display.float_format = "{:.4g}".format

# %% [markdown]
# ## 1. How a choice works
#
# The model draws $K$ samples $x_1, \dots, x_K$, a *menu*, and a person keeps one. The paper models the person by
# Luce's choice rule (Bradley–Terry when $K = 2$) with a reward $r$:
#
# $$P(\text{keep } x_k) = \frac{e^{r(x_k)}}{\sum_{j} e^{r(x_j)}} .$$
#
# Our menu holds $K = 4$ points from a mixture of eight Gaussians, and the person likes points near the mode at 45
# degrees: $r(x) = -\gamma \max(0, \|x - \mu^*\| - r_{\min})$. Only in this section $\gamma = 1/2$: a person so
# easy-going gives every sample a chance one can see. Everywhere else $\gamma$ comes from the profile.

# %%
scenes = statements.scenes(profile.population.grid, profile.toy.gamma)
data = scenes["gaussians"].data
menu = data.sample(4, seed=derive(seed, "menu"))
reward = distance(menu, data.centre, gamma=0.5, r_min=data.r_min)
chosen = int(k_choice(reward, k=4, n_keep=1, seed=derive(seed, "choice")))

# %% [markdown]
# **Expected:** shown the same menu many times, the person keeps each sample as often as Luce's rule says, up to
# the noise of counting.

# %%
replays = statements.luce(reward, 4000, seed=seed)
replays.set_axis(list(figures.LETTERS[: len(menu)])).rename_axis("sample")

# %%
cells = scenes["gaussians"].cells
density = scenes["gaussians"].square(cells.prob)
fig = figures.choice(density, cells.extent, menu.numpy(), replays, chosen)
alt = "Four labelled samples on the eight-mode density, one ringed; bars of Luce's rule beside kept frequencies."
products.figure(fig, "01_choice", profile, seed=seed, numbers=replays, alt=alt)

# %% [markdown]
# Left, the four samples with their probabilities; the ring marks the one that this person kept. The likeliest need
# not win: that is what makes curation a gentle push and not a hard filter. Right, the frequencies. In the table
# above, `law` is Luce's probability, `kept` the frequency and `error` its standard error.

# %% [markdown]
# ## 2. The exact dynamics
#
# Average over all menus. A point $x$ shown beside $K - 1$ others from $p$ is kept in proportion to
#
# $$H^K_p(x) = \mathbb{E}_{x_1, \dots, x_{K-1} \sim p}
#   \left[ \frac{K e^{r(x)}}{e^{r(x)} + \sum_i e^{r(x_i)}} \right], \qquad 0 < H^K_p < K,$$
#
# so curation multiplies the density by $H^K_p$, and a model that fits its data perfectly follows
#
# $$p_{t+1} = \frac{1}{1+\lambda}\, p_{\mathrm{ref}} + \frac{\lambda}{1+\lambda}\, p_t\, H^K_{p_t} ,$$
#
# where $p_{\mathrm{ref}}$ is the law of the real data, $\lambda$ the ratio of synthetic to real data, and $\lambda
# = \infty$ means curated data only. Our loops start from a perfect first model, $p_0 = p_{\mathrm{ref}}$; $P_0$ is
# the probability of a set under $p_0$, and $r^*$ the highest reward that $p_0$ reaches, here 0. $H$ needs no
# random numbers: it is one smooth integral over the law of the reward (`lib/population.py`). No density can grow
# more than $K$-fold in one round.
#
# **Expected:** with curated data only, seven of the eight modes die. With real data mixed in, all survive.

# %%
settings = profile.population
k, lam = profile.toy.k, profile.toy.lam
scene = scenes["gaussians"]
paths = {"curated": scene.path(k, settings.rounds_mixed), "mixed": scene.path(k, settings.rounds_mixed, lam)}
rounds = sorted({t for t in (0, 1, 2, 5) if t < settings.rounds_mixed} | {settings.rounds_mixed})
shares = statements.round_table(scene, paths, rounds)
shares.round(4)

# %%
fields = {loop: [scene.square(path[t]) for t in rounds] for loop, path in paths.items()}
title = f"eight Gaussians, exact, {figures.setting(k, lam, profile.toy.gamma)}, profile {profile.name}"
fig = figures.density_rows(fields, rounds, cells.extent, title)
alt = "Density by round: with curated data only one mode is left, with real data all eight stay."
products.figure(fig, "01_rounds", profile, seed=seed, numbers=shares, alt=alt)

# %% [markdown]
# The columns `share_0` to `share_7` hold the mass of each mode (`share_1` is the rewarded one), `top_mass` the
# mass where the reward is highest. Each picture has its own colour scale, square-root stretched so that a small
# mode is still seen.

# %%
held = shares[shares["round"] == rounds[-1]].set_index("loop")
Markdown(
    f"After {rounds[-1]} rounds with $K = {k}$, the rewarded mode holds {held.share_1['curated']:.4f} of the mass "
    f"with curated data only, and {held.share_1['mixed']:.3f} with real data at $\\lambda = {lam:g}$, where each "
    f"other mode keeps at least {held.filter(like='share_').loc['mixed'].min():.3f}."
)

# %% [markdown]
# ## 3. Where it ends: the three heat maps
#
# Theorem 2.1 names the end of the curated-only loop: the initial density, cut to the set $A$ where the reward is
# highest, and renormalised,
#
# $$p^*(x) = \frac{p_0(x)\, 1\{r(x) = r^*\}}{P_0(r = r^*)} .$$
#
# **Expected:** $p^*$ is a piece of $p_0$ with its shape unchanged, not a point: the reward is flat on $A$, and the
# loop cannot tell two points of equal reward apart.

# %%
maps = {
    name: [
        scene.square(values) for values in (scene.reward, scene.cells.prob, limit(scene.cells.prob, scene.reward))
    ]
    for name, scene in scenes.items()
}
fig = figures.reward_and_limit(maps, cells.extent)
numbers = statements.heat_table(scenes)
alt = "For eight Gaussians and two moons: reward level sets, initial density, and the limit, a disc cut out of it."
products.figure(fig, "01_heat_maps", profile, seed=seed, numbers=numbers, alt=alt)

# %% [markdown]
# Top, the mixture of Gaussians; bottom, two moons. The limit is the part of the data inside the flat top of the
# reward; on the moons that is a stretch of the upper moon with cut ends. Each density has its own colour scale,
# square-root stretched.

# %% [markdown]
# ## 4. The statements, one by one
#
# From here on: the statement, what we expect, the check. $\gamma$, the grid and the number of rounds come from the
# profile unless a cell says otherwise; all checks but the threshold and Theorem 2.2 use both data sets.
#
# ### Lemma 2.1: large menus
#
# As $K \to \infty$, one round becomes the tilt $p_{t+1} = p_t e^r / \mathbb{E}_{p_t}[e^r]$, so $p_t \propto p_0
# e^{t r}$: the optimum of KL-regularised reward maximisation with strength $1/t$, which is what reinforcement
# learning from human feedback (RLHF) aims at. The loop gets there without ever computing a reward's gradient.
#
# **Expected:** $\|p_t - p_0 e^{tr}/Z\|_1$ falls like $1/K$, since the mean of $K - 1$ other samples fluctuates
# with variance of order $1/K$. On log-log axes: slope $-1$.

# %%
menus = (2, 4, 16, 64, 256, 1024, 4096)
tilted = statements.lemma_2_1(scenes, menus, rounds=(1, 5))
tilted.pivot(index=["data", "round"], columns="k", values="distance")

# %%
at_four, at_256 = (tilted[tilted["k"] == k]["distance"] for k in (4, 256))
Markdown(
    f"At $K = 4$ the distance is {at_four.min():.2f} to {at_four.max():.2f}, of at most 2; at $K = 256$ it is "
    f"{at_256.min():.1g} to {at_256.max():.2g}, and from there on it falls like $1/K$."
)

# %%
fig = figures.lemma_2_1(tilted)
alt = "Distance to the tilted law against menu size, log-log: parallel to slope -1 for large K."
products.figure(fig, "01_lemma_2_1", profile, seed=seed, numbers=tilted, alt=alt)

# %% [markdown]
# ### Lemma 2.2: the reward rises, its variance dies
#
# $$\mathbb{E}_{p_{t+1}}[e^r] \ge \mathbb{E}_{p_t}[e^r] + \frac{K-1}{K}\,
# \frac{\mathrm{Var}_{p_t}[e^r]}{e^{r^*}} .$$
#
# **Expected:** gain over bound is at least 1 in every round. It should approach 1 as $t$ grows, for every $K$, and
# the sooner the larger $K$ is: once nearly all mass sits at $r^*$, the inequality has nothing left to give away.
# We therefore allow for rounding ($10^{-12}$).

# %%
pure = statements.pure_loop(scenes, (2, 4, 16, math.inf), settings.rounds_pure)
shown = pure[pure["round"].isin([1, 5, settings.rounds_pure]) & (pure["data"] == "gaussians")]
shown.pivot(index="k", columns="round", values=["gain", "bound", "var"])

# %%
fig = figures.lemma_2_2(pure)
alt = "E[e^r] rises to 1; Var[e^r] rises first where menus are small, then falls; gain is never below its bound."
products.figure(fig, "01_lemma_2_2", profile, seed=seed, numbers=pure, alt=alt)

# %%
first, ends = (pure.groupby(["data", "k"])["var"].agg(which) for which in ("first", "max"))
ratio = (pure["gain"] / pure["bound"]).groupby(pure["round"]).min().dropna()
Markdown(
    f"The variance need not fall at once: small menus first split the mass between liked and unliked, and it "
    f"grows up to {(ends / first).max():.2f}-fold before it dies. Gain over bound is at least "
    f"{ratio.iloc[0]:.2f} in the first round, and comes down to 1 (right; logarithmic) without crossing it."
)

# %% [markdown]
# ### Theorem 2.1: collapse onto the top level set
#
# $\mathrm{KL}(p^* \| p_t) \to 0$ in the curated-only loop.
#
# **Expected:** it falls in every round. How fast is not in the paper; here is a forecast. Just outside $A$ this
# reward falls linearly, and near the end a round multiplies the density there, relative to that in $A$, by about
# $e^{r (K-1)/K}$. After $t$ rounds a rim of width $K / ((K-1)\, \gamma\, t)$ is still left. Once it is thin beside
# the scale on which $p_0$ varies (0.2 on the Gaussians, 0.16 on the moons),
#
# $$t\, \frac{K-1}{K}\, \mathrm{KL}(p^* \| p_t) \to \frac{1}{\gamma\, P_0(A)} \oint_{\partial A} p_0 ,$$
#
# the integral of $p_0$ over the circle around $A$: the tail goes like $1/t$, with one constant for all $K \ge 2$.
# So late in the loop $K = \infty$ is $K/(K-1)$ times as near to $p^*$ as a menu of $K$: twice as near as $K = 2$.
#
# Which cells of a square grid lie just outside $A$ is an accident of the grid, and the tail hangs on them. The
# reward depends on $\|x - \mu^*\|$ alone, so for the tail we give up the grid and follow the law of that distance,
# on rings around $A$ that are the narrower the nearer they lie to it.

# %%
tail = statements.collapse(profile.toy.gamma, (2, 4, 16, math.inf), settings.rounds_pure)
last = tail[tail["round"] == settings.rounds_pure]
last

# %%
fig = figures.theorem_2_1(tail)
alt = "KL(p*||p_t) falls in every round and ends parallel to slope -1 on log-log axes, for every menu size."
products.figure(fig, "01_theorem_2_1", profile, seed=seed, numbers=tail, alt=alt)

# %%
ends = {name: f"{x.min():.3f} to {x.max():.3f}" for name, x in last.groupby("data")["rescaled"]}
limits = last.groupby("data")["limit"].first()
by_menu = last.pivot(index="data", columns="k", values="kl")
speed = " and ".join(f"{x:.2f}" for x in by_menu[2] / by_menu[math.inf])
Markdown(
    f"After {settings.rounds_pure} rounds $t\\, \\frac{{K-1}}{{K}}\\, \\mathrm{{KL}}$ (`rescaled`) is "
    f"{ends['gaussians']} on the Gaussians, where the forecast (`limit`) is {limits['gaussians']:.4f}, and "
    f"{ends['moons']} on the moons, where it is {limits['moons']:.4f}, for menus of 2 to infinity. KL itself is "
    f"{speed} times as large at $K = 2$ as at $K = \\infty$."
)

# %% [markdown]
# ### Theorem 2.3: with real data the reward still rises
#
# $$\mathbb{E}_{p_t}[e^r] \ge \mathbb{E}_{p_{\mathrm{ref}}}[e^r] + \frac{\lambda}{(1+\lambda)^3}\,
# \frac{K-1}{K}\, \frac{\mathrm{Var}_{p_{\mathrm{ref}}}[e^r]}{e^{r^*}} \qquad (p_0 = p_{\mathrm{ref}},\ t \ge
# 1).$$
#
# **Expected:** it holds with room to spare, most of all for large $\lambda$: the factor $\lambda / (1+\lambda)^3$
# shrinks there, while the true gain grows.

# %%
pairs = [(k, lam) for k in (2, 4, 16) for lam in (0.1, 0.5, 2.0)]
gains = statements.mixed_loop(scenes, pairs, settings.rounds_mixed)
least = gains.groupby(["data", "k", "lam"])[["gain", "gain_bound"]].min()
least = least.assign(ratio=least["gain"] / least["gain_bound"])
least

# %%
fig = figures.theorem_2_3(gains)
alt = "Gain in E[e^r] over rounds above its dashed bound for K = 2, 4, 16 and lambda = 0.1, 0.5, 2."
products.figure(fig, "01_theorem_2_3", profile, seed=seed, numbers=gains, alt=alt)

# %%
Markdown(f"The least gain of any round is {least.ratio.min():.1f} to {least.ratio.max():.0f} times the bound.")

# %% [markdown]
# ### Theorem 2.4: with enough real data the loop stays near it
#
# If $\lambda < 1/(K-1)$ and $p_0 = p_{\mathrm{ref}}$, then $\mathrm{KL}(p_t \| p_{\mathrm{ref}}) \le -\log(1 -
# \lambda (K-1))$ in every round. (A loop that starts far from the data obeys the bound only once it has come
# back.)
#
# **Expected:** it holds, and loosely on these data. The proof bounds the density ratio $p_t / p_{\mathrm{ref}}$ as
# if every menu let the rewarded points grow $K$-fold; here they win against each other too.

# %%
pressures = (0.1, 0.4, 0.7, 0.9, 0.99)
pairs = [(k, pressure / (k - 1)) for k in (2, 4, 16) for pressure in pressures]
near = statements.mixed_loop(scenes, pairs, settings.rounds_mixed)
worst = near.groupby(["data", "k", "pressure"])["kl"].max().unstack("k")
worst.assign(bound=[-math.log1p(-pressure) for _, pressure in worst.index])

# %%
fig = figures.theorem_2_4(near)
alt = "Largest KL to the real data against lambda (K-1): every point lies below the dashed bound."
products.figure(fig, "01_theorem_2_4", profile, seed=seed, numbers=near, alt=alt)

# %%
used = (near["kl"] / -(1 - near["pressure"]).map(math.log)).max()
Markdown(f"KL reaches at most {used:.1%} of the bound: on these data the loop stays far nearer than it must.")

# %% [markdown]
# The theorem keeps any kind of sample from *growing* without limit. That no kind *dies* needs no theorem: a share
# $1/(1+\lambda)$ of each round is real, so $p_{t+1} \ge p_{\mathrm{ref}} / (1 + \lambda)$ for every $K$ and
# $\lambda$. At $\lambda = 1$ each mode keeps at least half of its share, which is what section 2 shows.

# %% [markdown]
# ### The threshold $\lambda = 1/(K-1)$ is sharp
#
# Is the condition an artefact of the proof? Take the worst case: two kinds of points only, the rewarded set $A$ is
# rare, $p_{\mathrm{ref}}(A) = 10^{-6}$, and whoever sees a member of $A$ keeps it. While $A$ is rare it grows by
# the factor $K \lambda / (1+\lambda)$ a round, which is above 1 exactly when $\lambda (K-1) > 1$.
#
# **Expected:** below the threshold $p(A)$ ends at $p_{\mathrm{ref}}(A) / (1 - \lambda(K-1))$, the largest density
# ratio that the proof allows. Above it, $p(A)$ ends at a fixed share, no matter how rare $A$ was, and no bound on
# KL can hold for all $p_{\mathrm{ref}}$. Lines come from a scalar equation for the end, dots from the loop itself.

# %%
pressures = (0.25, 0.5, 0.75, 0.9, 0.99, 1.01, 1.1, 1.25, 1.5, 2.0, 3.0)
across = statements.threshold((2, 4), pressures, shares=(1e-6,))
across.pivot(index="pressure", columns="k", values=["reached", "solved", "ratio"])

# %%
rare = statements.threshold((2,), (0.9, 1.5), shares=(1e-3, 1e-6, 1e-9, 1e-12))
rare[["pressure", "share", "reached", "kl", "bound", "rounds"]]

# %%
fig = figures.threshold(across, rare)
numbers = pd.concat([across, rare], ignore_index=True)
alt = (
    "Left: final p(A) jumps by orders of magnitude at lambda (K-1) = 1. Right: above it KL grows as A gets rarer."
)
products.figure(fig, "01_threshold", profile, seed=seed, numbers=numbers, alt=alt)

# %%
reached = across.pivot(index="pressure", columns="k", values="reached")
jump = reached.loc[1.01] / reached.loc[0.99]
Markdown(
    f"From $\\lambda (K-1) = 0.99$ to $1.01$ the final share of $A$ grows {jump.min():.0f}- to "
    f"{jump.max():.0f}-fold. (This is a threshold of the exact loop: with $n$ samples a round, an $A$ much rarer "
    f"than $1/n$ would mostly not be drawn at all.)"
)

# %% [markdown]
# ### Theorem 2.2: a parametric model, without curation
#
# This one builds on Bertrand et al. (ICLR 2024); it is about $K = 1$. A model $p_\theta$ with few parameters
# cannot match the data. Does it stay at its best fit $\theta^*$ when it is retrained as
#
# $$\theta_{t+1} = \arg\max_\theta\; \mathbb{E}_{p_{\mathrm{ref}}}[\log p_\theta] +
# \lambda\, \mathbb{E}_{p_{\theta_t}}[\log p_\theta]\,?$$
#
# With
#
# - $\alpha$: strong concavity of $\theta \mapsto \mathbb{E}_{p_{\mathrm{ref}}}[\log p_\theta]$ at $\theta^*$,
# - $L$: Lipschitz constant of $x \mapsto \partial_\theta^2 \log p_\theta(x)$,
# - $\epsilon$: Wasserstein-1 distance of $p_{\theta^*}$ and $p_{\mathrm{ref}}$ (how good the best model is),
#
# the theorem says: if $L \epsilon < \alpha$ and $\lambda < \alpha / (2 L \epsilon)$, then
# $\mathrm{KL}(p_{\theta^*} \| p_{\theta_t})$ decays like $\rho^{2t}$ with $\rho = \frac{\lambda (\alpha + \epsilon
# L)}{\alpha + \lambda (\alpha - \epsilon L)}$.
#
# Our family shifts a logistic density, $p_\theta(x) = g(x - \theta)$, for which $L = 1/(3\sqrt 3)$. The data have
# a second, smaller bump that no shift can match, so $\epsilon > 0$. A Gaussian family ($L = 0$) stands beside it.

# %%
real = parametric.mixture(centres=(0.0, 2.5), weights=(0.8, 0.2))
families = (parametric.LOGISTIC, parametric.GAUSSIAN)
known = {family.name: parametric.constants(family, real) for family in families}
constants = pd.DataFrame({name: vars(c) | {"lam_limit": c.lam_limit} for name, c in known.items()})
constants.T

# %% [markdown]
# `fisher` is $-\mathbb{E}_{p_{\theta^*}}[\partial_\theta^2 \log p_\theta]$. It enters the exact slope of the
# update at $\theta^*$, $\frac{\lambda\, \texttt{fisher}}{\alpha + \lambda\, \texttt{fisher}}$, and the proof of
# the theorem only knows that it is within $L \epsilon$ of $\alpha$.
#
# **Expected:** near $\theta^*$, KL shrinks at least by the factor $\rho^2$ in a round, with equality for the
# Gaussian family, where $\rho = \lambda / (1 + \lambda)$. Beyond the condition ($\lambda = 4$ and $8$ for the
# logistic) the theorem is silent. The exact slope is below 1 for every $\lambda$: near $\theta^*$ any such loop
# contracts, whatever its dimension, since $\alpha > 0$ and `fisher` $\ge 0$. How far from $\theta^*$ that reaches
# is the question.

# %%
lams = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
stable = parametric.theorem_2_2(families, real, lams, theta_0=2.0, rounds=settings.rounds_mixed)
by_setting = stable.groupby(["family", "lam"])
table = by_setting["contraction"].agg(["max", "last"])
table.join(by_setting[["local", "bound", "covered"]].first())

# %%
fig = figures.theorem_2_2(stable, known["logistic"].lam_limit, "logistic")
alt = "KL to the best fit falls geometrically, below its bound where it has one; contraction is at most rho^2."
products.figure(fig, "01_theorem_2_2", profile, seed=seed, numbers=stable, alt=alt)

# %% [markdown]
# `max` is the largest factor of any round, `last` that of the last round, and `local` the square of the exact
# slope, which `last` approaches. Left, a curve stops where KL is below $10^{-10}$, and $\lambda = 4$ and $8$ have
# no bound. Two cautions, so that nobody reads too much into the dashed line. The theorem describes the approach
# *near* $\theta^*$: with data that nearly belong to the family, $\epsilon$ is small, $\rho$ leaves little room,
# and a round that starts far away may be slower than $\rho^2$. The next cell shows one. And beyond the condition,
# `bound` exceeds 1 and says nothing; the contraction measured there is our observation.

# %%
almost = parametric.mixture(centres=(0.0, 0.5), weights=(0.75, 0.25))
far = parametric.theorem_2_2((parametric.LOGISTIC,), almost, (1.0,), theta_0=2.0, rounds=4)
far[["round", "theta", "kl", "contraction", "bound"]]

# %% [markdown]
# ## 5. Caption, and where we differ from the paper
#
# **Finding.** At the committed settings every statement of the paper holds, with the margins above. Curated data
# alone collapse onto the top level set of the reward, with this reward at the pace $1/t$; real data stop the
# collapse while the reward still rises; and in the worst case the amount of real data that Theorem 2.4 asks for is
# the right one: at $\lambda = 1/(K-1)$ the behaviour of a rare kind of sample that everyone keeps changes for
# good.
#
# **Where we differ.**
#
# - The paper's statements are about densities in the plane; ours live on a grid of cells. $A$ is the set of cells
#   whose centre lies within $r_{\min}$ of $\mu^*$. Only the pace of Theorem 2.1's tail is computed on rings.
# - The paper gives the eight modes, radius 2 and $\gamma = 10$. The width of a mode, $r_{\min}$, and the moons'
#   scale and noise are our choices (`lib/toy.py`). They set the constants; the verdicts were checked at these
#   settings only.
# - The paper's confidence loop uses $\lambda = 1/2$. That satisfies the condition of Theorem 2.4 for $K = 2$ only,
#   so for larger menus the theorem gives no bound there. The mixed loop of section 2 does not meet it either ($K =
#   4$, $\lambda = 1$).
# - The rate $1/t$, the sharpness of the threshold and the contraction beyond the condition of Theorem 2.2 are not
#   in the paper. The verdict table marks them "ours".

# %%
found = [
    claims.choice_claim(replays),
    claims.lemma_2_1_claim(tilted),
    *claims.lemma_2_2_claims(pure),
    *claims.theorem_2_1_claims(pure, tail),
    *claims.theorem_2_2_claims(stable),
    claims.theorem_2_3_claim(gains),
    claims.theorem_2_4_claim(near),
    *claims.threshold_claims(across, rare),
]
products.listing(claims.table(found, measured=True)[["claim", "measured"]])

# %% tags=["nbval-check-output"]
products.verdicts(found, "01_population", profile, seed=seed)
