# %% [markdown]
"""# Where do the tokens go?

A small sparse classifier of real text, the load of its experts, and the words
that each expert takes. A script whose cells are marked by `# %%`: VS Code,
PyCharm, Spyder, and Jupyter with jupytext show it as a notebook.

Command:  make wordnet && python examples/notebooks/where_tokens_go.py
Time:     a quarter of a minute on two cores
Expected: a spread of the loads of 0.59 with the balancing loss, of 0.77
          without (1.0 and 3.4 % of the tokens are left behind); for each
          expert its commonest words; two pictures in build/notebooks
"""

# %%
import pathlib
import sys

import keras
import numpy as np

import keras_moe

sys.path.append("examples")  # run it in the folder of the clone
from data import glosses  # noqa: E402

PICTURES = pathlib.Path("build/notebooks")
PICTURES.mkdir(parents=True, exist_ok=True)
LENGTH, WORDS, DIM, EXPERTS = 24, 4_000, 64, 8
keras.utils.set_random_seed(0)

# %% [markdown]
# ## The data
#
# Definitions of WordNet; the label is what kind of thing is defined.

# %%
read = glosses.load(most=20_000)
tokens = keras.layers.TextVectorization(
    max_tokens=WORDS, output_sequence_length=LENGTH
)
tokens.adapt(read.texts)
x, y = tokens(read.texts).numpy(), read.topics
print(read.texts[0], "->", y[0])

# %% [markdown]
# ## Train twice
#
# Once with the loss that evens out the load, once without. The callback keeps
# the load of each epoch.


# %%
def train(weight: float) -> tuple[keras.Model, keras.callbacks.History]:
    """Trains with this weight of the load-balancing loss."""
    router = keras_moe.layers.SwitchRouter(load_balancing_loss_weight=weight)
    ids = keras.Input((LENGTH,), dtype="int64")
    embedded = keras.layers.Embedding(
        tokens.vocabulary_size(), DIM, mask_zero=True, name="embed"
    )(ids)
    moe = keras_moe.layers.SparseMoE(EXPERTS, DIM, router=router, name="moe")
    mixed = keras.layers.Add()([embedded, moe(embedded)])
    pooled = keras_moe.layers.MeanPooling()(mixed)
    model = keras.Model(ids, keras.layers.Dense(glosses.TOPICS)(pooled))
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(
        x,
        y,
        batch_size=256,
        epochs=2,
        verbose=2,
        callbacks=[keras_moe.visualization.ExpertLoadCallback()],
    )
    return model, history


trained = {
    "with the loss": train(0.01),
    "without the loss": train(0.0),
}

# %% [markdown]
# ## The load
#
# White is even, orange more, purple less; an expert that no token reached is
# crossed out. The bars show what training left behind for want of room.

# %%
for name, (_, history) in trained.items():
    figure = keras_moe.visualization.plot_expert_load(history, title=name)
    figure.savefig(PICTURES / f"load_{name.replace(' ', '_')}.png")
    spread = history.history["moe/expert_load_cv"][-1]
    left = history.history["moe/fraction_tokens_left_behind"][-1]
    print(f"{name}: spread of the loads {spread:.2f}, left behind {left:.1%}")

# %% [markdown]
# ## Does another half of the data agree?
#
# `collect_expert_load` runs a model over any data, and changes nothing in it.

# %%
model, _ = trained["with the loss"]
halves = [
    keras_moe.visualization.collect_expert_load(model, part, batch_size=512)
    for part in np.array_split(x[:4096], 2)
]
for half in halves:
    print("relative loads:", np.round(half.relative()[0], 2))

# %% [markdown]
# ## The words of each expert
#
# Here the router sees nothing but the word itself, so that each word has one
# expert. The commonest words of each, and the share of the vocabulary:

# %%
embeddings = model.get_layer("embed").embeddings
plan = model.get_layer("moe").router(keras.ops.expand_dims(embeddings, 0))
expert_of = np.array(plan.probabilities)[0].argmax(axis=-1)
words = np.array(tokens.get_vocabulary())
for expert in range(EXPERTS):
    taken = np.flatnonzero(expert_of[2:] == expert) + 2  # no padding, unknown
    print(
        f"expert {expert}: {len(taken) / (len(words) - 2):5.1%} of the words:",
        " ".join(words[taken[:8]]),
    )
print(f"pictures: {PICTURES}")
