"""A small dense student out of a sparse teacher."""

from keras_moe.distillation._debiasing_weights import (
    debiasing_weights as debiasing_weights,
)
from keras_moe.distillation._distiller import Distiller as Distiller
from keras_moe.distillation._early_exit_distiller import (
    EarlyExitDistiller as EarlyExitDistiller,
)
from keras_moe.distillation._hidden_state_distillation import (
    HiddenStateDistillation as HiddenStateDistillation,
)
from keras_moe.distillation._initialize_dense_student import (
    initialize_dense_student as initialize_dense_student,
)
from keras_moe.distillation._latent_exploration import (
    LatentExploration as LatentExploration,
)
from keras_moe.distillation._sparse_to_dense_distiller import (
    SparseToDenseDistiller as SparseToDenseDistiller,
)
from keras_moe.distillation._student_label_mixing import (
    StudentLabelMixing as StudentLabelMixing,
)
from keras_moe.distillation._token_distillation import (
    TokenDistillation as TokenDistillation,
)
from keras_moe.distillation._weighted_distillation_loss import (
    WeightedDistillationLoss as WeightedDistillationLoss,
)
from keras_moe.distillation.teachers._cached_teacher import (
    CachedTeacher as CachedTeacher,
)
from keras_moe.distillation.teachers._load_teacher import (
    load_teacher as load_teacher,
)
from keras_moe.distillation.teachers._online_teacher import (
    OnlineTeacher as OnlineTeacher,
)
from keras_moe.distillation.teachers._teacher_accuracy import (
    TeacherAccuracy as TeacherAccuracy,
)
from keras_moe.distillation.teachers._teacher_logits import (
    TeacherLogits as TeacherLogits,
)
from keras_moe.distillation.teachers._teacher_logits import (
    describe_teacher_logits as describe_teacher_logits,
)
from keras_moe.distillation.teachers._teacher_logits import (
    read_teacher_logits as read_teacher_logits,
)
from keras_moe.distillation.teachers._teacher_logits import (
    write_teacher_logits as write_teacher_logits,
)
from keras_moe.distillation.teachers._teacher_sequences import (
    TeacherSequences as TeacherSequences,
)
from keras_moe.distillation.teachers._teacher_sequences import (
    teacher_sequences as teacher_sequences,
)
