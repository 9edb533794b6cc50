"""The model, and the functions that TFX's components call."""

import keras

from keras_moe.components import TextToText
from keras_moe.components import keep_history
from keras_moe.components import training_checkpoints
from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer
from keras_moe.training import BudgetedSchedule
from keras_moe.training import EarlyExitTrainer
from keras_moe.training import Trainer
from keras_moe.training import TrainingBudget
from keras_moe.training import TrainingProgress

STEPS_OF_AN_EPOCH = 100
# Epochs without a lower loss of the validation split, after which the best
# weights are taken: a model of few pairs soon knows them by heart.
PATIENCE = 8


def make_model(source_size, target_size):
    """Makes the model, untrained, for vocabularies of these sizes."""
    return SwitchTransformer(
        vocabulary_size=source_size,
        target_vocabulary_size=target_size,
        model_dim=128,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        hidden_dim=512,
        num_experts=4,
        moe_every=2,
        # Nobody reads the metrics of routers here, and dropout takes a fifth of
        # the time. Raise it where training stops early.
        report_metrics=False,
        dropout_rate=0.0,
        expert_dropout_rate=0.0,
    )


def preprocessing_fn(inputs, custom_config):
    """Makes ids of texts: the Transform component's code."""
    return TextToText(**custom_config["texts"]).preprocess(inputs)


def run_fn(fn_args):
    """Trains all exits of a model: the Trainer component's code."""
    options = fn_args.custom_config
    task = TextToText(**options["texts"])
    budget = TrainingBudget(**options["training"])
    keras.utils.set_random_seed(0)
    model = make_model(*task.vocabulary_sizes(fn_args.transform_graph_path))
    exits = EarlyExitTrainer(model)
    exits.compile(
        optimizer=keras.optimizers.AdamW(beta_2=0.98, clipnorm=1.0),
        loss=token_crossentropy,
        # Batches have many lengths, and XLA compiles a program for each.
        jit_compile=False,
    )
    schedule = BudgetedSchedule(budget)
    with training_checkpoints(fn_args, every=500) as checkpoints:
        history = Trainer(exits, checkpoints).fit(
            task.batches(fn_args.train_files, options["batch_size"]),
            steps_per_epoch=min(STEPS_OF_AN_EPOCH, budget.steps),
            epochs=budget.steps,  # the schedule ends the training
            validation_data=task.validation_batches(
                fn_args.eval_files, options["batch_size"]
            ),
            callbacks=[
                schedule,
                keras.callbacks.EarlyStopping(
                    patience=PATIENCE, restore_best_weights=True
                ),
                TrainingProgress(schedule),
            ],
            verbose=0,
        )
        task.export(
            model, fn_args.transform_graph_path, fn_args.serving_model_dir
        )
        keep_history(history, fn_args.model_run_dir)


def exit_task(args):
    """Says what an early answer costs: the ExitCalibrator's code."""
    return TextToText(**args.custom_config["texts"]).exit_task(args)
