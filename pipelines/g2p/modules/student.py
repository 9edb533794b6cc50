"""The Distiller component's code: teacher in, a servable student out."""

import functools
from typing import Any

import keras

from keras_moe.components import BASE_STUDENT
from keras_moe.components import keep_history
from keras_moe.components import read_locally
from keras_moe.components import training_checkpoints
from keras_moe.distillation import EarlyExitDistiller
from keras_moe.distillation import initialize_dense_student
from keras_moe.distillation import load_teacher
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import evaluation_batches
from pipelines.g2p.modules.batches import training_batches
from pipelines.g2p.modules.exporting import export_model
from pipelines.g2p.modules.page import expert_load_of
from pipelines.g2p.modules.transformed import stream_pairs
from pipelines.g2p.modules.warm_start import start_from


def run_fn(fn_args: Any) -> None:
    """Distils a dense student, each of its exits, and exports it.

    Args:
        fn_args: TFX's `FnArgs`. `base_model` is the teacher; `custom_config`
            holds `layers`, `keep_stress`, `training`, `student_loss_weight`
            and `warm_start_share` (see `PipelineConfig`), and `base_student`,
            the student to go on from, if there is one.
    """
    options = fn_args.custom_config
    config = training.TrainingConfig(**options["training"])

    keras.utils.set_random_seed(config.seed)
    with read_locally(fn_args.base_model) as directory:
        teacher = load_teacher(directory)
    student = SwitchTransformer(
        **{**teacher.config.to_dict(), "num_experts": 0, **options["layers"]}
    )
    if start_from(student, options.get(BASE_STUDENT)):
        config = config.shortened(options["warm_start_share"])
    else:
        initialize_dense_student(teacher, student)
    distiller = EarlyExitDistiller(
        teacher, student, student_loss_weight=options["student_loss_weight"]
    )
    with training_checkpoints(
        fn_args, every=training.UPDATES_BETWEEN_CHECKPOINTS
    ) as checkpoints:
        history = training.train(
            distiller,
            training_batches(
                functools.partial(stream_pairs, fn_args.train_files),
                student.config,
                config.batch_size,
                config.seed,
            ),
            evaluation_batches(
                functools.partial(stream_pairs, fn_args.eval_files),
                student.config,
                config.batch_size,
            ),
            config,
            checkpoints=checkpoints,
            show_progress=True,
        )
        export_model(
            student,
            fn_args.transform_graph_path,
            fn_args.serving_model_dir,
            bool(options["keep_stress"]),
            draw_expert_load=expert_load_of(teacher, fn_args.eval_files),
        )
        keep_history(history, fn_args.model_run_dir)
