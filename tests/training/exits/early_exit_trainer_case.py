"""Trainers of all exits, and what each exit costs."""

import tensorflow as tf

from keras_moe.losses import token_crossentropy
from keras_moe.training import EarlyExitTrainer
from tests.reference import losses as reference


def trainer_of(model, loss=token_crossentropy, metrics=None, **options):
    trainer = EarlyExitTrainer(model, **options)
    # Eager: what is compared is what is computed, not how it is compiled.
    trainer.compile("sgd", loss, metrics=metrics, run_eagerly=True)
    return trainer


def loss_of(trainer, x, y, sample_weight=None, training=True):
    y_pred = trainer(x, training=training)
    return trainer.compute_loss(x, y, y_pred, sample_weight, training)


def logits_of(model, x, layers):
    """Of all exits at once."""
    states = tf.stack(model.exit_states(x, layers))
    return model.logits(states)


def costs_of(model, x, y, layers):
    return [
        reference.crossentropy(y, logits.numpy())
        for logits in logits_of(model, x, layers)
    ]
