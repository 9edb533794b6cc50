"""Loss functions."""

from keras_moe.losses.load_balancing import (
    load_balancing_loss as load_balancing_loss,
)
from keras_moe.losses.router_z import router_z_loss as router_z_loss
from keras_moe.losses.token_crossentropy import (
    token_crossentropy as token_crossentropy,
)
