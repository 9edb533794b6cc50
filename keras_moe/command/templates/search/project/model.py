"""The model, and the functions that TFX's components call."""

import keras

from keras_moe.components import TextSearch
from keras_moe.components import keep_history
from keras_moe.components import training_checkpoints
from keras_moe.layers import MeanPooling
from keras_moe.models import DualEncoder
from keras_moe.training import BudgetedSchedule
from keras_moe.training import Trainer
from keras_moe.training import TrainingBudget
from keras_moe.training import TrainingProgress

STEPS_OF_AN_EPOCH = 100


def make_model(texts, dim=128):
    """Makes the model, untrained.

    Sources and targets have one encoder: the mean of the vectors of words and
    of the pieces of three letters in them, so that what is written alike is
    found before anything is learned.

    Args:
        texts: strings `(n,)`, whose pieces have vectors.
        dim: of a vector.
    """
    text = keras.Input((), dtype="string")
    vectors = []
    for split, ngrams in (("whitespace", 1), ("character", (3,))):
        pieces = keras.layers.TextVectorization(
            max_tokens=30_000, split=split, ngrams=ngrams
        )
        pieces.adapt(texts)
        embed = keras.layers.Embedding(
            pieces.vocabulary_size(), dim, mask_zero=True
        )
        vectors.append(MeanPooling()(embed(pieces(text))))
    encoder = keras.Model(text, keras.layers.Add()(vectors))
    return DualEncoder(encoder, temperature=0.05)


def run_fn(fn_args):
    """Trains the encoder: the Trainer component's code."""
    options = fn_args.custom_config
    task = TextSearch()
    budget = TrainingBudget(**options["training"])
    keras.utils.set_random_seed(0)
    model = make_model(task.texts(fn_args.train_files))
    model.compile(keras.optimizers.Adam())
    schedule = BudgetedSchedule(budget)
    with training_checkpoints(fn_args, every=500) as checkpoints:
        history = Trainer(model, checkpoints).fit(
            task.batches(fn_args.train_files, options["batch_size"]),
            steps_per_epoch=min(STEPS_OF_AN_EPOCH, budget.steps),
            epochs=budget.steps,  # the schedule ends the training
            callbacks=[schedule, TrainingProgress(schedule)],
            verbose=0,
        )
        task.export_encoder(model, fn_args.serving_model_dir)
        keep_history(history, fn_args.model_run_dir)


def search_task(args):
    """Says on what the index is tuned: the IndexBuilder's code."""
    return TextSearch().search_task(args)
