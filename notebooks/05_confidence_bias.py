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
# # Confidence reward: bias without a favourite
#
# **Paper figure:** CIFAR-10, confidence reward: class shares and mean reward, curated only beside real data mixed
# in.
#
# **Shows:** what happens when people prefer whatever a classifier is sure of. The reward names no class, yet the
# paper finds that curated-only retraining makes the class shares ever more uneven, and that real data prevents it.
# At the `quick` profile scikit-learn's 8x8 digits stand in for CIFAR-10; profiles `cifar` and `paper` run the same
# cells on CIFAR-10.
#
# **Needs:** nothing beyond the installation at `quick` (one to two minutes on one CPU core the first time, seconds
# after that); at `cifar` one and a half hours on two cores with avx512_bf16, minutes on a GPU.

# %% tags=["parameters"]
profile = "quick"  # a file in profiles/: the scale of the experiment
seed = 0  # first of the consecutive seeds; each runs every arm
overrides = {}  # single settings by dotted key, e.g. {"images.rounds": 5}

# %%
import pandas as pd
from IPython.display import Markdown, display

from lib import experiments, figures, image_claims, image_experiments, image_figures, products, profiles, recorded
from lib.datasets import CIFAR10_CLASSES

figures.use_style()
settings = profiles.load(profile, overrides)
images = settings.images
names, source = image_experiments.class_names(images), image_experiments.source(images)
pd.Series(images.model_dump(), name="the live run")[image_figures.SETTINGS].to_frame()

# %% [markdown]
# ## Recorded on CIFAR-10
#
# Profile `cifar` takes hours on a CPU, so it was run ahead; its tables lie in `paper_figs/cifar/` and are drawn
# here by the functions that draw the live run below: **curated only**, the loop **with real data** ($\lambda =
# 1/2$) and the **$K = 1$ control**, which retrains without any choice; $\gamma = 15$, a flow of 6.3 M parameters.
# Dashed is the exact dynamics, choice without a model; dotted are the least and the greatest of twenty *perfect*
# models a seed that draw as many samples: within lies chance. The reward is read by the *fitted* classifier, the
# only one of this profile; further words: notebook 00, section 7.
#
# In short: of 2.25 nats of evenness choice alone would take 0.06 in ten rounds, retraining without any choice
# takes 0.38, and both together 0.67, in the mean of three runs. With two thirds real data hardly any is lost. The
# figures go on to the twenty rounds of notebook 06.

# %%
record = recorded.load("05_class_shares", judge="fitted")
longer = recorded.load("06_quality")
columns = ["mean_reward", "entropy", "confidence_evaluator"]
title = "Confidence reward over 20 rounds (CIFAR-10, recorded)"
alt = "Recorded mean reward, entropy and evaluator's confidence over 20 rounds on CIFAR-10, band of the seeds."
products.picture(image_figures.arm_curves(longer, columns, title), alt)

# %%
exact, curated = longer.exact["curated"], longer.histories("curated")
panels = {f"curated only, seed {s}": (curated[curated["seed"] == s], exact) for s in longer.seeds}
panels |= {figures.ARM_NAMES[arm]: (longer.histories(arm), longer.exact[arm]) for arm in ("mixed", "control")}
alt = "Recorded class shares over 20 rounds on CIFAR-10: each curated run, then the other arms; exact dashed."
products.picture(image_figures.class_shares(panels, CIFAR10_CLASSES, title), alt)

# %%
Markdown(f"*{longer.source} Band: least to greatest seed. Exact dynamics: mean over the seeds.*")

# %% [markdown]
# How much of it is curation? The change of entropy, in the mean of the runs, after ten rounds (as in the paper's
# figure) and after twenty:

# %%
several = {"10 rounds": record, "20 rounds": longer}
for arm in ("curated", "mixed"):
    changes = {name: image_experiments.drift(one, "entropy", arm) for name, one in several.items()}
    display(pd.concat(changes, axis=1).rename_axis(figures.ARM_NAMES[arm]).round(3))

# %% [markdown]
# **Reading.** *In ten rounds the classes grow uneven without real data, more with choice than without.* Curated
# only, 1.53, 1.67 and 1.54 nats are left of 2.25 (seeds 0, 1, 2), in the control 1.84, 1.93 and 1.83; the two part
# only after round 6. A loop that keeps 256 images a round draws them: three loops of a *perfect* model, without
# any choice, lose 0.28 nats or more in the mean only once in twenty times. Ours lose 0.67 with choice and 0.38
# without: both are more than chance. With choice a perfect model loses more (dots). The unluckiest of sixty is
# left with 1.67 nats in the record of ten rounds, and with 1.62 among the sixty drawn anew for the figure above:
# seeds 0 and 2 end below both, seed 1 (1.666) between them. By the second sixty the mean would be within 0.05 of
# what perfect models do (0.045, and not 0.087), so that row below is too close to call. That the model takes
# evenness away by itself shows in the control. In this record the paper's statement came out, and in the two
# earlier ones, in the mean and by today's criteria (the tables of claims stored there count each run from its own
# start, and one says “does not hold”): the same loops and seeds, with other random times in the fits and other
# rounding, lost 0.45 with choice and 0.35 without (`paper_figs/cifar/` at commit `b2cf558`); with an earlier
# classifier, which was right on 90.2 % of the test images and not 92.8 %, and less sure ($p_0$'s samples scored
# 10.9), 1.04 and 0.36 (at commit `62915b5`).
#
# *A single run says little.* In those records curated runs lost between 0.22 and 1.48 nats, two of six less than
# the control of their seed; the nine runs of the three records share three seeds. And *the criteria were set after
# this record had been seen*: by the earlier ones, each run by itself and from its own start, the control's loss
# would count as chance, the mean reward would not have risen by 2 % in every run, real data would have kept the
# entropy (0.045), and precision (notebook 06) would not have risen in every run.
#
# *Choice alone would do little.* The exact dynamics takes the reward from 12.0 to 14.3 of 15 in one round and to
# 14.8 in three, and in ten rounds favours airplanes, ships and frogs by a third to a half and thins out dogs and
# birds by as much, which costs little evenness: 0.04 nats in three rounds, 0.06 in ten. Airplanes would lead in
# all three runs, at 0.19 to 0.22. In the loops of seeds 0 and 1 they do, at 0.48 and 0.40, with ships behind them
# (0.24 and 0.25). In seed 2 cats and dogs lead, at 0.43 and 0.30, as they do in all controls: there the model's
# own drift has won. Part of that drift is the ruler: of blurred real images the evaluator calls 35 % cats and 15 %
# dogs (notebook 04).
#
# *The mean reward rises late and by little*: from 12.0 to 12.8, 12.5 and 12.3. The controls end at 11.1 to 11.4.
# At first each round of fifty optimiser steps on 256 images loses what choice has gained: picking confident images
# is easy, learning to draw them is not. The evaluator, which nobody rewards, grows surer in seed 1 alone.
#
# *With two thirds real data the evenness stays*: entropy ends at 2.21 to 2.24 nats and is never more than 0.055
# below its start, where we allow 0.05 (0.056 and 0.059 in the two earlier records, counted in the same way). The
# reward falls a little. The exact loop would raise both, and not by choice: real images are confident and evenly
# spread, and they keep coming in. The short fits of a round, we take it, pick up neither.
#
# *In twenty rounds* one or two classes come to hold 0.87 or more of each curated loop, but not the same ones:
# airplanes hold 0.87 in seed 0, ships 0.79 in seed 1 (they overtake airplanes after round 13, where both have
# 0.4), dogs and cats 0.49 and 0.38 in seed 2; 0.56, 0.66 and 1.17 nats are left, the mean reward is 14.1, 14.3 and
# 12.8, and the evaluator grows surer, too (0.82, 0.85 and 0.71, from 0.70 to 0.71). Choice alone would leave 2.17.
# The controls are at 1.40 to 1.46 by then, all with dogs and cats in front; from round 18 on they lie below the
# dots: so the model's own drift is more than chance, and where it meets a choice that points elsewhere, either may
# win. With real data 2.23 to 2.25 nats are left, as even as at the start.
#
# The verdicts are those of the ten rounds:

# %% tags=["nbval-check-output"]
sizes = [record.settings[key] for key in ("confidence_gamma", "n_keep", "menus")]
found = image_claims.bias_claims(record, "fitted", *sizes)
products.show_verdicts(found, recorded.near(found))

# %% [markdown]
# # The live run
#
# ## The reward, read by two classifiers
#
# $r(x) = \gamma \max_i q_i(x)$ with $\gamma = 15$. What this reward can do depends on how sure its classifier
# already is. A *fitted* classifier gives nearly all samples a confidence close to 1: little is left to choose by.
# One trained with label smoothing and stopped early (*smoothed*) stays unsure of many samples. On digits the
# fitted one is saturated; on CIFAR-10 it is not ($p_0$'s samples score 12.0 of 15 in the record, near the smoothed
# one's 11.7 on digits); of the paper's we know the accuracy alone, 92.39 %, and that of the record's is 92.79 %.
# We show both where the profile has both, since showing only the one that agrees with the paper would be tuning
# the claim.

# %%
studio = image_experiments.studio(images)
studio.cards()

# %%
sure = {name: judge(studio.data.test).amax(dim=1).mean() for name, judge in studio.judges.items()}
sure = {name: float(value) for name, value in sure.items()}
pd.Series(sure, name="mean confidence, real test images").round(3).to_frame()

# %% [markdown]
# ## The loops
#
# - **curated only**: expect the mean reward to rise and, by the paper, the class shares to grow uneven.
# - **with real data** ($\lambda = 1/2$, two thirds real): expect even shares and a mean reward that rises and then
#   levels off.
# - **$K = 1$ control**: nothing is chosen. One run serves both classifiers. Whatever evenness it loses is lost
#   without any human preference, by model error and chance.

# %%
seeds = list(range(seed, seed + images.confidence_seeds))
loops = {
    judge: image_experiments.image_experiment(settings, "confidence", seeds, judge=judge)
    for judge in studio.judges
}

# %%
panels = {}
for judge, experiment in loops.items():
    for arm in experiment.arms:
        heading = f"{figures.ARM_NAMES[arm]} ({judge})"
        panels[heading] = (experiment.histories(arm), experiment.exact[arm])
figure = image_figures.class_shares(panels, names, f"Confidence reward ({source})")
numbers = pd.concat([experiments.long_table(one, judge=judge) for judge, one in loops.items()])
about = {"seed": seed, "numbers": numbers, "run": experiments.provenance(*loops.values())}
alt = "Class shares over rounds. Curated only and control grow uneven, with real data they stay near even."
products.figure(figure, "05_class_shares", settings, alt=alt, **about)

# %%
origin = image_figures.origin(source, settings, seeds)
Markdown(
    f"*{origin}. Shares counted by the evaluator; exact dynamics dashed, averaged over the seeds' pools. In "
    f"brackets the reward's classifier; the control is the same run in each row.*"
)

# %% [markdown]
# ## Mean reward and entropy
#
# Entropy of the ten class shares is 2.30 nats when they are even and 0 when one class is left. Dashed is the exact
# dynamics; dotted are the least and the greatest of twenty loops of a *perfect* model on as many samples
# (`lib/finite.py`): each reproduces its training set exactly, and wanders all the same, since that set was drawn.

# %%
for judge, experiment in loops.items():
    title = f"Confidence reward, {judge} classifier ({source})"
    figure = image_figures.arm_curves(experiment, columns, title)
    alt = f"{judge} classifier: mean reward, entropy of class shares and the evaluator's confidence over rounds."
    display(products.figure(figure, f"05_curves_{judge}", settings, alt=alt, **about))

# %% [markdown]
# ## How much of it is curation?
#
# The exact dynamics is the choice rule without a model: it says how uneven the shares become by choice alone. The
# next two rows let a perfect model draw as many samples, twenty times. The control is the model without a choice.
# If bias amplification were curation's doing alone, the last number would lie between the second and the third.

# %%
pd.concat({name: image_experiments.drift(one, "entropy") for name, one in loops.items()}, axis=1).round(3)

# %%
for column in ("entropy", "mean_reward"):
    mixed = {name: image_experiments.drift(one, column, "mixed") for name, one in loops.items()}
    display(pd.concat(mixed, axis=1).rename_axis(f"with real data: {column}").round(3))

# %%
pd.concat({name: image_experiments.drift(one, "mean_reward") for name, one in loops.items()}, axis=1).round(3)

# %% [markdown]
# ## What we find
#
# Of the digits that stand in for CIFAR-10 at `quick`:
#
# - **Curated only, the shares grow uneven**, whichever classifier is asked, as the paper says.
# - **Most of that is neither choice nor chance.** The exact dynamics, on the same rewards, loses far less entropy
#   than the loop, and so do all twenty loops of a perfect model on as many samples. And the control grows uneven
#   too: an imperfect model, retrained on itself, prefers some classes with no preference of anyone involved.
# - **Choice steers the model's error.** Without choice the shares drift to blurred images that pass for one class
#   (of blurred real digits the evaluator calls 98 % eights, notebook 04). With the smoothed classifier curation
#   leads to *another* class, and far faster. With the fitted one the same class grows at first, against the exact
#   curve, but four other digits grow beside it, 0 and 6 most; by round 10 those two, which choice alone favours,
#   have overtaken it, here and in the two further runs of notebook 07. Curation even slows the loss of entropy, we
#   take it because it weeds out the blur.
# - **A saturated reward hardly rises.** With the fitted classifier nearly all samples have a confidence close to
#   1, and what a round of choice gains, a round of retraining loses; with two thirds real data the reward even
#   falls a little, where the exact loop and a perfect model gain at once. With the smoothed classifier the
#   curated-only loop's mean reward rises as the paper shows, more slowly than the exact one; with two thirds real
#   data it rises by little.
# - **Real data keeps the classes even** with both classifiers. What reward the exact mixed loop gains comes mostly
#   from the real images, which score higher than $p_0$'s, and not from choice: without choice ($K = 1$, in the
#   tables above) it would gain as much with the fitted classifier, and four fifths of it with the smoothed one.
#
# **Where we differ from the paper.** $K$, $\gamma$ and the number kept are not all stated there; ours are in the
# table at the top. With $K = 4$, $\lambda = 1/2$ lies outside the range $\lambda < 1/(K-1)$ in which Theorem 2.4
# gives a bound. The smoothed classifier, the control and the exact curves are our addition: without the control,
# all of the drift would have been put down to curation.

# %% tags=["nbval-check-output"]
sizes = images.confidence_gamma, images.n_keep, images.menus
verdicts = [claim for judge, one in loops.items() for claim in image_claims.bias_claims(one, judge, *sizes)]
near = recorded.near(verdicts) if products.as_stored(settings, seed, "cifar") else []
products.verdicts(verdicts, "05_confidence_bias", settings, seed=seed, run=about["run"], unsettled=near)
