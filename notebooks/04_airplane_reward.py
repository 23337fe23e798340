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
# # Airplane reward: one class takes over
#
# **Paper figures:** CIFAR-10, airplane reward: class shares and mean reward over ten rounds; in the appendix FID,
# precision and recall.
#
# **Shows:** a flow-matching model retrained on its own samples after people, who all like airplanes, picked among
# them. At the `quick` profile scikit-learn's 8x8 digits stand in for CIFAR-10 and the digit 0 for the airplane;
# profiles `cifar` and `paper` run the same cells on CIFAR-10.
#
# **Needs:** nothing beyond the installation at `quick` (one to two minutes on one CPU core the first time, seconds
# after that); at `cifar` an hour on two cores with avx512_bf16, minutes on a GPU.

# %% tags=["parameters"]
profile = "quick"  # a file in profiles/: the scale of the experiment
seed = 0  # first of the consecutive seeds; each runs every arm
overrides = {}  # single settings by dotted key, e.g. {"images.rounds": 5}

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display
from torch.nn import functional

from lib import experiments, figures, image_claims, image_experiments, image_figures, products, profiles, recorded
from lib.datasets import CIFAR10_CLASSES

figures.use_style()
settings = profiles.load(profile, overrides)
images = settings.images
names, source = image_experiments.class_names(images), image_experiments.source(images)
rewarded = image_experiments.AIRPLANE
pd.Series(images.model_dump(), name="the live run")[image_figures.SETTINGS].to_frame()

# %% [markdown]
# ## Recorded on CIFAR-10
#
# Profile `cifar` takes hours on a CPU, so it was run ahead; its tables lie in `paper_figs/cifar/` and are drawn
# here by the functions that draw the live run below. **curated only** repeats the loop of the paper's figure
# ($\gamma = 5$) with a smaller flow, of 6.3 M parameters; the **$K = 1$ control** retrains without any choice,
# dashed is the **exact dynamics**, choice without a model; dotted are the least and the greatest of twenty
# *perfect* models a seed that draw as many samples as the loop: within lies chance. Classes are counted by an
# evaluator that is not the reward's classifier. TV, precision, recall and further words: notebook 00, section 7.

# %%
record = recorded.load("04_class_shares")
title = "Airplane reward (CIFAR-10, recorded)"
alt = "Recorded class shares over ten rounds on CIFAR-10, curated only and control, exact dynamics dashed."
ship = CIFAR10_CLASSES.index("ship")
products.picture(image_figures.arm_shares(record, CIFAR10_CLASSES, title, also=[ship]), alt)

# %%
curves = ["mean_reward", "entropy", "tv_to_exact", *image_figures.QUALITY]
alt = "Recorded mean reward, entropy, distance to the exact shares and quality over ten rounds on CIFAR-10."
products.picture(image_figures.arm_curves(record, curves, title, record.floor), alt)

# %%
Markdown(
    f"*{record.source} Band: least to greatest seed. Fréchet distance on evaluator features, not FID; "
    f"dash-dotted: real test images.*"
)

# %%
products.stored("04_samples", "cifar")

# %%
image_experiments.drift(record, f"share_{rewarded}").round(3).to_frame()

# %%
real = {"real test images": record.floor} | record.others
image_figures.rulers(record, real).round(2)

# %%
blurred = pd.Series(record.others["real, blurred twofold"]).filter(like="share_").set_axis(CIFAR10_CLASSES)
blurred.round(2).rename("real test images, blurred: share").to_frame().T

# %% [markdown]
# **Reading.** The rewarded class takes over in all three runs, from 0.14 to 0.87-0.90 of the samples, where choice
# alone ends at 0.86 in the mean. Our line of 90 % (the paper says: towards 1) is missed by little in all three.
# The exact dynamics misses it, too, since some of what the reward's classifier calls airplanes the evaluator calls
# something else; perfect models on as many samples end at 0.61 to 0.99. Of two earlier records, each of seed 0
# alone, one missed it (0.899, `paper_figs/cifar/` at commit `b2cf558`) and one, with an earlier classifier, did
# not (0.918, at commit `62915b5`). On two cores of an AMD EPYC (same code; not stored) the loop of seed 0 ended at
# 0.899 instead of 0.889, and was never more than 0.034 away: rounding alone moves the share by that much. On the
# way the loops lag: in round 2 they have 0.38 to 0.45 where choice alone has 0.64, and the slowest of sixty
# perfect models 0.49; and their mean reward stays below the dots from the first round on, to end at 4.3 to 4.6
# where choice alone has 5.0: from round 7 on the share is on the exact curve, the reward never is. That, we take
# it, is model error: a round of fifty optimiser steps goes only part of the way to the law of the chosen images.
# For the same reason, and since a round's mean is one of 1,024 draws, the reward of seed 1 falls once on its way,
# by 0.04 in round 8. Three things the reward does not tell:
#
# - *Ships rise with the airplanes for a while*, from 0.07-0.08 to 0.14, 0.21 and 0.13 (rounds 2 to 4), before they
#   fall below their start. The exact dynamics lets them rise by 0.01, in the first round, and has them at 0.03 in
#   the end. In most single rounds chance alone could do as much (seed 1 has 0.17 in round 5, the greatest of sixty
#   perfect models 0.16; `04_class_shares.csv`), but it would hardly take all three runs the same way: a model that
#   learns from blue pictures may well draw blue pictures.
# - *What is left in the end is mostly sky, with little of an airplane.* The grids (seed 0) show pale streaks on
#   blue, some of them with wings, which classifier and evaluator alike call airplanes. Precision is above that of
#   real images even (0.97 against 0.87); without any choice it rises to 0.91. Blur would not explain it, which
#   lowers precision (row “real, blurred twofold” above: 0.77). But precision asks only whether a sample lies near
#   some real image, and a loop that draws few, typical pictures can score high: read it with recall, which is
#   nearly gone (0.08).
# - *The Fréchet distance almost triples, to 92-99*. So high a distance needs no bad picture: real airplanes by
#   themselves lie 99 from all real images, and have a recall of 0.20.
#
# The control, in which nobody chooses, ends at 76 to 84, with a recall of about 0.2, in brown and green blur. So
# on this small model most of such a loss needs no curation: retraining on a few hundred of its own images will do.
# (The two losses cannot simply be added.) Its class shares drift to cats and dogs in all three runs, about as far
# in all as chance takes the unluckiest of sixty perfect models (third panel, dotted), seed 2 farther (0.39 against
# 0.35); and chance would not take all three the same way. Part of that is the ruler: of real test images, blurred,
# the evaluator calls 35 % cats and 15 % dogs (table above). What choice decides is where the model goes.

# %% tags=["nbval-check-output"]
sizes = [record.settings[key] for key in ("airplane_gamma", "n_keep", "menus")]
products.show_verdicts(image_claims.airplane_claims(record, rewarded, *sizes))

# %% [markdown]
# # The live run
#
# ## Model, reward, judges
#
# - **Model:** OT-CFM, flow matching along straight paths between optimally paired noise and data. All arms and
#   seeds start from one $p_0$, trained on real images.
# - **Reward:** $r(x) = \gamma\, q_0(x)$, where $q$ are the class probabilities of a classifier and class 0 is the
#   rewarded one; $\gamma = 5$ as in the paper.
# - **Judge:** class shares are counted by an *evaluator*, a classifier trained from another seed. A loop that
#   learns to fool the reward's classifier does not thereby fool the evaluator. Both counts are in the CSV.

# %%
studio = image_experiments.studio(images)
studio.cards()

# %% [markdown]
# A model that learns from its own samples blurs them. So the judge, and the rulers of quality, are first tried on
# real images: those of the rewarded class alone, and test images that are blurred (means of 2x2 pixels, enlarged).

# %%
coarse = functional.avg_pool2d(studio.data.test.float(), 2)
blurred = functional.interpolate(coarse, scale_factor=2, mode="bilinear").round().to(torch.uint8)
counted = studio.evaluator(blurred).argmax(dim=1).bincount(minlength=len(names)) / len(blurred)
liked = studio.data.train[studio.data.train_labels == rewarded]
real = {"real test images": studio.floor, "real, rewarded class alone": studio.quality(liked)}
real["real, blurred twofold"] = studio.quality(blurred) | {f"share_{i}": float(x) for i, x in enumerate(counted)}
pd.Series(counted, names, name="real test images, blurred: share").round(2).to_frame().T

# %% [markdown]
# ## The loop
#
# - **curated only** ($\lambda = \infty$), as in the paper's figure: expect the rewarded share to rise towards 1,
#   every other class to shrink and the mean reward to rise in each round.
# - **$K = 1$ control**: the same loop with menus of one. Nothing is chosen, so what moves is model error or
#   chance.
# - **exact dynamics** (dashed): the choice rule applied to the pool that was drawn from $p_0$. It reweights these
#   samples without any model: no training, no free parameter. Dotted beside it is a *perfect* model that
#   reproduces each training set exactly and draws as many samples as the loop does: what lies within is chance.

# %%
seeds = list(range(seed, seed + images.seeds))
experiment = image_experiments.image_experiment(settings, "airplane", seeds, arms=("curated", "control"))

# %%
shown = [t for t in (0, 1, 2, 3, 5, 10) if t <= images.rounds]
pictures, table = image_experiments.stored_images(experiment, shown)
figure = image_figures.image_grids(pictures, shown, f"Airplane reward, samples by round ({source})")
alt = "Samples by round. Curated only: more and more of the rewarded class. Control: blurs, and drifts to another."
about = {"seed": seed, "run": experiment.provenance}
products.figure(figure, "04_samples", settings, numbers=table, alt=alt, **about)

# %%
origin = image_figures.origin(source, settings, seeds)
Markdown(f"*{origin}: the first 36 samples of the first seed; the rewarded class is “{names[rewarded]}”.*")

# %% [markdown]
# ## Class shares and mean reward

# %%
figure = image_figures.arm_shares(experiment, names, f"Airplane reward: “{names[rewarded]}” ({source})")
rows = [values | {"arm": "none", "kind": kind} for kind, values in real.items() if values is not studio.floor]
numbers = pd.concat([experiments.long_table(experiment, studio.floor), pd.DataFrame(rows)])
alt = (
    "Class shares over rounds, exact dynamics dashed. Curated only: the rewarded class becomes by far the largest."
)
products.figure(figure, "04_class_shares", settings, numbers=numbers, alt=alt, **about)

# %%
columns = curves + [column for column in ["fid"] if column in studio.floor]
title = f"Airplane reward (“{names[rewarded]}”): reward and quality ({source})"
figure = image_figures.arm_curves(experiment, columns, title, studio.floor)
alt = "Six quantities over rounds: mean reward rises with choice only; Fréchet distance grows and recall falls."
products.figure(figure, "04_curves", settings, numbers=numbers, alt=alt, **about)

# %%
Markdown(
    f"*{origin}; exact dynamics dashed (mean over the seeds' pools), least and greatest of twenty loops of a "
    f"perfect model on as many samples dotted. The Fréchet distance is taken on the evaluator's features of "
    f"{len(studio.real_features):,} training images; it is not FID, which needs Inception's weights. Dash-dotted: "
    f"real test images.*"
)

# %% [markdown]
# Curation, chance and model error, told apart: the change of the rewarded share. The exact dynamics knows class
# and reward alone, so of the Fréchet distance only the measured loops can speak; beside them, what is left if a
# perfect collapse keeps nothing but real images of the rewarded class.

# %%
image_experiments.drift(experiment, f"share_{rewarded}").round(3).to_frame()

# %%
image_figures.rulers(experiment, real).round(2)

# %% [markdown]
# ## Menu size and menu rule
#
# The paper states neither $K$ nor whether a sample may stand in several menus. So we look at both: $K$ in {2, 4,
# 8}, each sample in one menu ("disjoint") or menus drawn with replacement ("resample"), curated only. Expect a
# larger $K$ to choose harder, and the menu rule to matter little.

# %%
choices = [(k, menus) for menus in ("disjoint", "resample") for k in (2, 4, 8)]
changes = {f"K = {k}, {menus}": {"k": k, "menus": menus} for k, menus in choices}
study = image_experiments.image_study(settings, "airplane", seed, changes)

# %%
panels = {}
for name, one in study.items():
    curve, rule = name.split(", ")
    heading = {"disjoint": "menus that share no sample", "resample": "menus drawn with replacement"}[rule]
    panels.setdefault(heading, {})[curve] = (one.histories("curated"), one.exact["curated"])
label = f"share of “{names[rewarded]}” (evaluator)"
if study:
    title = f"“{names[rewarded]}” rewarded, curated only ({source})"
    figure = image_figures.study_panels(panels, f"share_{rewarded}", label, title)
    numbers = pd.concat([experiments.long_table(one, setting=name) for name, one in study.items()])
    alt = "Rewarded share over rounds for three menu sizes and two menu rules: larger menus rise faster."
    about["run"] = experiments.provenance(*study.values())
    display(products.figure(figure, "04_menus", settings, numbers=numbers, alt=alt, **about))

# %%
caption = f"{image_figures.origin(source, settings, [seed])}. Exact dynamics dashed, on the pool of each run."
Markdown(f"*{caption}*" if study else "*Not compared at this profile: its `study_rounds` is 0.*")

# %% [markdown]
# ## What we find
#
# Of the digits that stand in for CIFAR-10 at `quick`:
#
# - **The rewarded class takes over by choice.** Its share and the mean reward follow the exact curve, which knows
#   no model; in the control it ends at 0.06, from 0.10. Model error shows beside it in the first rounds: the share
#   of 8 rises for a round, from 0.15 to 0.17, where by choice alone it falls to 0.11.
# - **The Fréchet distance grows for two reasons.** Most of the growth is curation: nine classes are gone, so the
#   features' law is that of one class, and real images of that class alone would be nearly as far from all real
#   ones (table above); recall falls and precision rises, since what is left looks real. A part is model error: the
#   control loses quality round by round although nothing is chosen, and drifts towards one class (see its panel),
#   almost three times as far as chance takes a perfect model. No one asked for that class; but blur looks like it:
#   of real test images, blurred, the evaluator calls 98 % eights.
# - **A larger $K$ chooses harder, the menu rule matters little.** All settings follow their own exact curves, most
#   from below, by up to 0.10 ($K = 4$, resample, round 2) and in some rounds by more than chance (`04_menus.csv`):
#   the loop lags. With one seed, differences of up to 0.05 between the two menu rules cannot be told from chance.
#
# **Where we differ from the paper.** $K$ and the menu rule are not stated there (the text we have seen keeps 2,500
# of 50,000 images a round, which would be $K = 20$ if each menu gave one); ours are in the table at the top. A
# round goes on from the weights of the last, where Algorithm 1 only says that a model is trained. Class shares are
# counted by an evaluator that is not the reward's classifier. The learning rate of a round was chosen for the
# control to drift least while the loop still follows the exact curve; loops at a larger rate had been looked at by
# then. The claims have been reworded since, with these results known. The control, the exact curves, the perfect
# model's and the comparison of menus are our addition.

# %% tags=["nbval-check-output"]
verdicts = image_claims.airplane_claims(experiment, rewarded, images.airplane_gamma, images.n_keep, images.menus)
verdicts += image_claims.study_claims(study, rewarded, images.n_keep) if study else []
run = experiments.provenance(experiment, *study.values())
products.verdicts(verdicts, "04_airplane_reward", settings, seed=seed, run=run)
