"""Loss functions."""

from keras_moe.losses._accidental_hits import accidental_hits as accidental_hits
from keras_moe.losses._exit_classifier import (
    exit_classifier_loss as exit_classifier_loss,
)
from keras_moe.losses._exit_weights import enabled_exits as enabled_exits
from keras_moe.losses._exit_weights import exit_layers as exit_layers
from keras_moe.losses._exit_weights import exit_weights as exit_weights
from keras_moe.losses._hidden_state_distance import (
    hidden_state_distance as hidden_state_distance,
)
from keras_moe.losses._in_batch_softmax import (
    in_batch_softmax as in_batch_softmax,
)
from keras_moe.losses._load_balancing import (
    load_balancing_loss as load_balancing_loss,
)
from keras_moe.losses._router_z import router_z_loss as router_z_loss
from keras_moe.losses._student_mixing import (
    student_mixing_loss as student_mixing_loss,
)
from keras_moe.losses._token_crossentropy import (
    token_crossentropy as token_crossentropy,
)
from keras_moe.losses._token_kl_divergence import (
    token_kl_divergence as token_kl_divergence,
)
from keras_moe.losses._weighted_mean import weighted_mean as weighted_mean
