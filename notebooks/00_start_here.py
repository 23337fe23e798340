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
# # Start here: the curated loop in two minutes
#
# People post the pictures they like best. The next model is trained on what was posted, and draws the next
# pictures. Nobody meant to train a model on human preferences, and yet that is what happens. [*Self-Consuming
# Generative Models with Curated Data Provably Optimize Human Preferences*](https://arxiv.org/abs/2407.09499)
# (Ferbach, Bertrand, Bose, Gidel; NeurIPS 2024) proves where it leads. These notebooks take the paper apart and
# put it back together: each trained loop is held against the exact mathematics of the same loop.
#
# **Shows:** the loop in one picture, what each notebook answers, what the paper claims and what held here, words
# and symbols in one place.
#
# **Needs:** nothing beyond the installation. A few seconds on one CPU core.

# %% tags=["parameters"]
profile = "quick"  # a file in profiles/: the scale of the experiment
seed = 0  # of the points drawn in the picture
overrides = {}  # single settings by dotted key, e.g. {"toy.k": 2}

# %%
import pandas as pd
import torch

from lib import claims, figures, population, products, profiles, statements
from lib.curation import k_choice
from lib.rewards import distance
from lib.seeds import derive

profile = profiles.load(profile, overrides)
figures.use_style()
k, lam, gamma = profile.toy.k, profile.toy.lam, profile.toy.gamma

# %% [markdown]
# ## 1. The loop in one picture
#
# One round, on a toy: real data in eight clusters, and people who like the upper right one. A *reward* $r(x)$ says
# how much they like a sample $x$. They are shown menus of $K$ samples and keep one of each by *Luce's choice
# rule*: sample $x_k$ with probability $e^{r(x_k)} / \sum_j e^{r(x_j)}$. The next model is fitted to what they
# kept, with real data mixed in or without.

# %%
scene = statements.scenes(160, gamma)["gaussians"]
data, n_kept = scene.data, 200
real = data.sample(800, seed=derive(seed, "real"))
pool = data.sample(n_kept * k, seed=derive(seed, "sample"))  # a perfect p_0: its samples look like real data
reward = distance(pool, data.centre, gamma, data.r_min)
kept = pool[k_choice(reward, k, n_kept, seed=derive(seed, "curate"))]
before, after = scene.path(k, 1, lam)  # exactly what a perfect fit would be

# %%
menu = max(pool.view(-1, k, 2)[:50], key=lambda points: torch.pdist(points).min())  # letters need room
chosen = int(k_choice(distance(menu, data.centre, gamma, data.r_min), k, 1, seed=derive(seed, "choice")))
points = {"real": real, "pool": pool, "menu": menu, "kept": kept, "mixed_in": real[: round(n_kept / lam)]}
stations = {name: x.numpy() for name, x in points.items()}
stations |= {"start": scene.square(before), "after": scene.square(after)}
top = data.centre, data.r_min
fig = figures.loop(stations, reward.numpy(), chosen, scene.cells.extent, top)
numbers = pd.concat([pd.DataFrame(x.numpy(), columns=["x1", "x2"]).assign(station=n) for n, x in points.items()])
alt = "Seven pictures joined by arrows: real data, fit, sample, reward, keep one of a menu, mix, refit; and back."
products.figure(fig, "00_loop", profile, seed=seed, numbers=numbers, alt=alt)

# %% [markdown]
# Yellow is liked, the circle is where the reward is highest; the ring marks the sample kept from one menu (A to
# D). Orange are kept samples, blue are real ones. Below each station stands the file of `lib/` that does it. Look
# at the last picture: after a single round the liked cluster already outshines the others.
#
# ## 2. Where it leads
#
# With kept samples only, the model ends where the reward is highest and forgets everything else. Real data in the
# mix hold it: everything survives, and people still get more of what they like. That is the heart of the paper,
# and the exact loop confirms it in a second:

# %%
arms = {"curated": {}, "mixed": {"lam": lam}}
paths = {arm: scene.path(k, profile.toy.rounds, **ratio) for arm, ratio in arms.items()}
shares = statements.round_table(scene, paths, range(profile.toy.rounds + 1))
shares["mean"] = [population.exp_reward_moments(p, scene.reward)[0] for path in paths.values() for p in path]
found = claims.tour_claims(shares, data.rewarded)
products.listing(claims.table(found, measured=True)[["claim", "measured"]])

# %% tags=["nbval-check-output"]
products.verdicts(found, "00_start_here", profile, seed=seed)

# %% [markdown]
# A trained diffusion model does the same. Here is a figure of notebook 02, as recorded at the profile `quick`:

# %%
products.stored("02_samples", "quick")

# %% [markdown]
# The bottom row is the *control*: menus of one, so nothing is chosen, and whatever moves there is the model's own
# error or chance: a loop that keeps a few hundred or thousand samples a round wanders even if its model is
# perfect. Each notebook that trains a model gives its main loops a control and, wherever the exact dynamics can
# speak, what chance alone would do beside them. Without them, drift can pass for an effect of curation, and chance
# for the model's fault.
#
# ## 3. What each notebook answers
#
# | notebook | question | minutes, first run |
# |---|---|---|
# | [01_population](01_population.ipynb) | What does the loop do exactly? Every theorem, with no network. | 0.3 |
# | [02_gaussian_mixture](02_gaussian_mixture.ipynb) | Does a trained diffusion model follow it? | 1.1 |
# | [03_two_moons](03_two_moons.ipynb) | Does the loop need separate clusters to collapse? | 1.0 |
# | [04_airplane_reward](04_airplane_reward.ipynb) | Images: what happens when people like one class? | 1.1 |
# | [05_confidence_bias](05_confidence_bias.ipynb) | Images: can a reward without a class favour classes? | 1.3 |
# | [06_quality_with_real_data](06_quality_with_real_data.ipynb) | Do the images stay good and varied? | 0.8 |
# | [07_repeated_runs](07_repeated_runs.ipynb) | Would another run have shown the same? | 1.4 |
# | [08_explorer](08_explorer.ipynb) | What if I turn the knobs, or do the choosing myself? | 0.2 |
# | [09_your_own](09_your_own.ipynb) | What does the loop do to *my* reward, data, model? | 0.3 |
#
# Minutes are those of the profile `quick`, each notebook by itself, on one core of an AMD EPYC with AVX-512; other
# machines took up to three times as long. 04 to 07 share loops, and a second run reads finished rounds and takes
# seconds. At `quick` the images are scikit-learn's 8x8 digits, standing in for CIFAR-10, and every title says so.
#
# ## 4. What the paper claims, and what held here
#
# Read from `paper_figs/<profile>/*_claims.csv` as this cell runs: how many claims about each statement of the
# paper held, of those checked, at each profile with recorded results.
#
# - A claim often stands for one figure or one theorem at one setting. "Ours" are expectations of this project that
#   the paper does not state.
# - At `quick`, the rows on CIFAR-10 are about the digits that stand in for it.
# - "By chance" in a claim is what drawing a finite number of samples does by itself: of many sets of loops of a
#   perfect model without choice, each set as large as ours, one in twenty goes beyond that number. The number is,
#   on the toys, the largest change of the rewarded share in a set, or the distance of its furthest loop from the
#   exact shares; on images the largest rise of the rewarded share, the mean loss of entropy, or the distance of
#   the two furthest loops.
# - "Open" are claims too close to call: rounding, which differs between processors and between two runs on one
#   GPU, or other draws of the perfect loops may decide otherwise.
# - At `cifar` notebooks 05 and 07 judge the same runs of the confidence reward, so two of their rows stand twice.

# %%
recorded = products.recorded().query("notebook != '00_start_here'")
says = {
    "Fig. 1": "a choice follows Luce's rule (assumed of people, tested of our sampler)",
    "Lemma 2.1": "large menus: each round tilts the law by e^r, as RLHF with a KL penalty does",
    "Lemma 2.2": "curated only: E[e^r] rises every round, Var[e^r] vanishes",
    "Toy figures": "curated only, what is liked takes over; with real data all stay",
    "Thm 2.1": "curated only: the law collapses onto the set where the reward is highest",
    "Thm 2.2": "real data hold a good enough parametric model near its best fit",
    "Thm 2.3": "with real data, E[e^r] stays above its start in every round",
    "Thm 2.4": "with enough real data the law stays near them: a bound on KL",
    "CIFAR-10, airplane": "one liked class takes over; quality suffers",
    "CIFAR-10, confidence": "a reward that names no class still makes classes uneven; real data prevent it",
    "CIFAR-10, quality": "with real data FID is stable, precision rises, recall is kept",
    "CIFAR-10, repeats": "three runs agree",
    "ours": "not in the paper: controls, exact curves, chance, rates, the threshold, the curator",
}
held = products.tally(recorded, "paper")
held.insert(0, "it says", [says.get(statement, "") for statement in held.index])

# %%
order = [*says, *held.index.difference(list(says))]
products.listing(held.reindex([x for x in order if x in held.index]).rename_axis("statement").reset_index())

# %% [markdown]
# By notebook:

# %%
products.listing(products.tally(recorded, "notebook").rename_axis("notebook").reset_index())

# %% [markdown]
# And what did *not* come out, with its numbers by profile. These rows are the reason to run experiments: where a
# notebook knows a cause, it names it.

# %%
missed = recorded[recorded["ours"] == "does not hold"]
missed = missed.assign(measured=missed["profile"] + ": " + missed["measured"])
together = missed.groupby(["notebook", "claim", "paper"], sort=False)["measured"].agg("; ".join)
products.listing(together.reset_index())

# %%
there = recorded.groupby("profile", sort=False)["notebook"].nunique()
lacking = [name for name in profiles.names() if name not in there]
for name, count in there.items():
    print(f"{name}: results of {count} notebooks are recorded")
for name in lacking:
    print(f"{name}: none yet; ./run_all.sh --profile {name} makes them")

# %% [markdown]
# ## 5. Where to go next
#
# | you have | and you want | go to |
# |---|---|---|
# | 5 minutes | to play | [08_explorer](08_explorer.ipynb): `./run_all.sh lab --only 08`, then *Run all cells* |
# | 10 minutes | the mathematics, no machine learning | [01_population](01_population.ipynb), sections 1 to 3 |
# | 10 minutes | a trained model beside the theory | [02_gaussian_mixture](02_gaussian_mixture.ipynb) |
# | 20 minutes | the images | [04_airplane_reward](04_airplane_reward.ipynb) to [07](07_repeated_runs.ipynb) |
# | 20 minutes | your own reward, data or model | [09_your_own](09_your_own.ipynb) |
# | an hour | every theorem with its bound | [01_population](01_population.ipynb), section 4 |
#
# In the code, begin with `lib/loop.py`: it is Algorithm 1 of the paper and little else. Then `lib/population.py`,
# the same loop without a network.
#
# ## 6. Notation
#
# - $p_{\mathrm{ref}}$: the law of the real data
# - $p_t$: the law of the model after $t$ rounds of retraining; $p_0$ is the first model, fitted to real data alone
# - $p^*$: the end of the curated-only loop: $p_0$ cut to where the reward is highest
# - $r(x)$, $r^*$: the reward of a sample, and the highest reward there is; only $e^r$ matters for a choice
# - $\gamma$: scale of the reward: how decided people are; 0 means that they choose blindly
# - $\mu^*$, $r_{\min}$: toys: the point people like, and how far around it they like all points equally
# - $K$: menu size: samples shown in one choice; $K = 1$ is no choice, $K = \infty$ the limit of Lemma 2.1
# - $\lambda$: synthetic to real: one real sample for every $\lambda$ kept ones, so a share $\lambda / (1 +
#   \lambda)$ is synthetic; $\lambda = \infty$ is curated data only
# - $H^K_p(x)$: by how much a choice among $K$ samples of $p$ multiplies the density at $x$; between 0 and $K$, and
#   1 on average
# - $T$: number of rounds
# - $q_c(x)$: a classifier's probability of class $c$; the rewards of images are $\gamma q_0(x)$ and $\gamma \max_c
#   q_c(x)$
#
# ## 7. Words
#
# - **menu**: the $K$ samples among which a person keeps one
# - **curation, $K$-choice**: keeping one sample of each menu by Luce's rule (for $K = 2$: Bradley–Terry)
# - **reward model**: what stands in for people: a formula on the toys, a classifier on images, your clicks in
#   notebook 08
# - **evaluator**: a second classifier, trained apart from the reward model, that counts the classes of generated
#   images: a judge must not also be the player
# - **arm**: one variant of the loop: *curated only* ($\lambda = \infty$), *with real data* (mixed), *control* ($K
#   = 1$)
# - **control**: the loop without any choice; what moves there is model error or chance
# - **exact dynamics**: the loop with infinitely many samples and a perfect model, computed without a network;
#   dashed in all figures of curves that it can predict
# - **chance**: what drawing a finite number of samples a round does by itself, with a perfect model; dotted, least
#   and greatest of twenty such loops. Geneticists call it drift: gene frequencies wander so in a small population
# - **model error**: what moves in a trained loop beyond choice and chance
# - **law**: probability distribution
# - **collapse**: the law ends on a small set, here the top level set of the reward, in which it keeps its shape;
#   $\mathrm{Var}[e^r]$ vanishes, and the entropy of shares falls to that of $p^*$ (0 if the set lies in one group)
# - **DDPM**: denoising diffusion model: learns to remove noise step by step; our generator for points
# - **OT-CFM**: optimal-transport conditional flow matching: learns the velocity that carries noise to data along
#   nearly straight lines; our generator for images
# - **EMA**: exponential moving average of a network's weights over training; the average is what draws samples
# - **NFE**: network evaluations needed to draw one sample
# - **Fréchet distance**: between two Gaussians fitted to features of real and of generated images; lower is better
# - **FID**: the Fréchet distance on the features of one particular Inception network; ours on other features goes
#   by its own name, and its values cannot be compared with FID
# - **precision, recall**: share of generated images that lie near real ones (quality), and of real ones near
#   generated ones (variety)
# - **entropy of shares**: evenness of classes or modes in nats: $\log n$ if $n$ groups are equal, 0 if one is left
# - **KL, TV**: Kullback–Leibler divergence in nats; total variation distance, half the L1 distance
# - **profile**: a scale of the experiments, a file in `profiles/`: `quick` for a laptop, `cifar`, `paper`
#
# **Close relatives.** The loop without choice was studied by Bertrand et al. and, under the name MAD, by
# Alemohammad et al. (both ICLR 2024); Gerstgrasser et al. (2024) ask what changes when data accumulate instead of
# being replaced. What comes after this paper asks about curators who are noisy or malicious (Wei and Zhang, ICML
# 2025), or of several minds (Zhao, Fu and Pham, 2025 and 2026).
#
# **Where we differ from the paper.** The picture and the claims of section 2 are the exact loop, not a trained
# one; menu size and $\lambda$ of the toys are not stated in the paper, and ours come from the profile. Each
# notebook ends with what it does differently.
