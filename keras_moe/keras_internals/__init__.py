"""Every private name of Keras that the library touches, a function each.

Keras has no public way to what these functions do, and may rename a private
name in any release. A new release of Keras is therefore tried with
`tests/keras_internals_test.py` first, which has a test for each function.
`tests/private_names_test.py` finds private names of Keras in any other file of
the library.

Two classes override a private method of Keras, which a function cannot do for
them: `layers.routers._replica_losses.ReplicaLosses` has its own
`Layer._get_own_losses`, since `Layer.losses` asks each sublayer for the losses
that it added itself; `optimizers._relative_clip_sgd.RelativeClipSGD` has its
own `Optimizer._clip_gradients`, which is called once gradients are accumulated
and before weights decay.
"""

from keras_moe.keras_internals._layers import count_name as count_name
from keras_moe.keras_internals._layers import flatten_layers as flatten_layers
from keras_moe.keras_internals._layers import (
    functional_nodes as functional_nodes,
)
from keras_moe.keras_internals._layers import own_losses as own_losses
from keras_moe.keras_internals._layers import (
    query_projection as query_projection,
)
from keras_moe.keras_internals._layers import (
    replace_sublayer as replace_sublayer,
)
from keras_moe.keras_internals._layers import stored_kernel as stored_kernel
from keras_moe.keras_internals._layers import sublayers as sublayers
from keras_moe.keras_internals._layers import (
    take_call_signature as take_call_signature,
)
from keras_moe.keras_internals._models import (
    build_from_batch as build_from_batch,
)
from keras_moe.keras_internals._models import compile_loss as compile_loss
from keras_moe.keras_internals._models import compile_metrics as compile_metrics
from keras_moe.keras_internals._models import compute_loss as compute_loss
from keras_moe.keras_internals._models import get_mask as get_mask
from keras_moe.keras_internals._models import set_mask as set_mask
from keras_moe.keras_internals._models import symbolic_call as symbolic_call
from keras_moe.keras_internals._variables import (
    backend_variable as backend_variable,
)
from keras_moe.keras_internals._variables import (
    in_stateless_scope as in_stateless_scope,
)
from keras_moe.keras_internals._variables import (
    reindex_variables as reindex_variables,
)
from keras_moe.keras_internals._variables import (
    replace_backend_variable as replace_backend_variable,
)
from keras_moe.keras_internals._variables import (
    strategy_of_optimizer as strategy_of_optimizer,
)
from keras_moe.keras_internals._variables import (
    trained_variables as trained_variables,
)
from keras_moe.keras_internals._variables import (
    zeros_for_random_values as zeros_for_random_values,
)
