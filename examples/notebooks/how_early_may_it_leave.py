# %% [markdown]
"""# How early may a token leave?

A decoder of four layers that spells numbers: at which layer its tokens leave,
what that costs, and how far a certificate lets it go. A script whose cells are
marked by `# %%`: VS Code, PyCharm, Spyder, and Jupyter with jupytext show it as
a notebook.

Command:  python examples/notebooks/how_early_may_it_leave.py
Time:     half a minute on two cores
Expected: all layers spell all of 1,000 numbers right; the boldest threshold
          asked, 0.4, is certified: 1.09 layers a token, 1.2 % of the answers
          differ. Six numbers from 7 to 999999 are spelled right; two pictures
          in build/notebooks
"""

# %%
import dataclasses
import pathlib
import sys

import keras
import numpy as np

import keras_moe

sys.path.append("examples")  # run it in the folder of the clone
from data import numbers  # noqa: E402

PICTURES = pathlib.Path("build/notebooks")
PICTURES.mkdir(parents=True, exist_ok=True)
LAYERS, LENGTH = 4, numbers.TARGET_LENGTH
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Train all exits
#
# Each layer is asked for the next word, through the same head. A thousand
# numbers are kept for the certificate: nothing is trained or chosen on them.

# %%
pairs = numbers.load(9_000)
sources, targets = pairs.sources[1000:], pairs.targets[1000:]
model = keras_moe.models.SwitchTransformer(
    vocabulary_size=len(numbers.SYMBOLS),
    model_dim=32,
    hidden_dim=128,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=LAYERS,
    num_experts=0,
)
trainer = keras_moe.training.EarlyExitTrainer(model)
trainer.compile(
    keras.optimizers.Adam(5e-3), keras_moe.losses.token_crossentropy
)
shifted = keras_moe.ops.shift_right(targets)
trainer.fit(
    {"encoder_token_ids": sources, "decoder_token_ids": shifted},
    targets,
    batch_size=128,
    epochs=8,
    verbose=2,
)

# %% [markdown]
# ## Decode at many thresholds
#
# A token leaves at the first layer that is surer than the threshold. The loss
# of an answer is 1 where one word of it differs from that of all layers.

# %%
policy = keras_moe.generation.EarlyExitPolicy("softmax")
thresholds = [1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
full, *early = keras_moe.calibration.exit_answers(
    model, pairs.sources[:1000], policy, thresholds, LENGTH, verbose=0
)
losses = np.stack(
    [(answer.token_ids != full.token_ids).any(axis=1) for answer in early],
    axis=1,
).astype(float)
speeds = [answer.mean_exit_layer() for answer in early]
right = (full.token_ids == pairs.targets[:1000]).all(axis=1).mean()
print(f"all layers: {right:.1%} right")

# %% [markdown]
# ## The certificate
#
# The boldest threshold at which at most one answer in twenty differs, with a
# confidence of 95 % over the draw of these thousand numbers.

# %%
TOLERANCE = 0.05
certificate = keras_moe.calibration.calibrate(
    losses, thresholds, TOLERANCE, p_value="binary"
)
for threshold, risk, speed, p in zip(
    thresholds, certificate.risks, speeds, certificate.p_values, strict=True
):
    print(
        f"threshold {threshold:4.2f}: {speed:.2f} layers a token, "
        f"{risk:5.1%} of the answers differ, p = {p:.2g}"
    )
print(f"certified threshold: {certificate.threshold}")
keras_moe.visualization.plot_risk_versus_speed(
    thresholds,
    certificate.risks,
    speeds,
    TOLERANCE,
    certificate.threshold,
    p_values=certificate.p_values,
    title="Spelling numbers",
    path=PICTURES / "frontier.png",
)

# %% [markdown]
# ## Where do the words leave?
#
# A light cell left early, a dark one late.

# %%
asked = [7, 42, 1000, 90_210, 314_159, 999_999]
rows = np.zeros((len(asked), numbers.SOURCE_LENGTH), "int32")
for row, number in zip(rows, asked, strict=True):
    ids = numbers.encode(str(number))
    row[: len(ids)] = ids
answer = model.generate(
    rows,
    LENGTH,
    early_exit=dataclasses.replace(policy, threshold=certificate.threshold),
)
answers, depths = np.array(answer["token_ids"]), np.array(answer["exit_layer"])
for number, ids in zip(asked, answers, strict=True):
    print(f"{number}: {numbers.decode(ids)}")
keras_moe.visualization.plot_exit_depth(
    [[numbers.SYMBOLS[i] or "end" for i in ids] for ids in answers],
    depths,
    LAYERS,
    path=PICTURES / "depth.png",
    labels=[str(number) for number in asked],
)
print(f"pictures: {PICTURES}")
