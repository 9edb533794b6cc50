"""What runs the code: XLA or not, on which device, with which derivatives."""

from keras_moe.backend._derivatives import gradient as gradient
from keras_moe.backend._derivatives import jacobian as jacobian
from keras_moe.backend._halves import is_halved as is_halved
from keras_moe.backend._halves import product_in_halves as product_in_halves
from keras_moe.backend._halves import rows_in_halves as rows_in_halves
from keras_moe.backend._halves import runs_side_by_side as runs_side_by_side
from keras_moe.backend._running import accelerator as accelerator
from keras_moe.backend._running import loops_keep_metrics as loops_keep_metrics
from keras_moe.backend._running import (
    metrics_are_in_reach as metrics_are_in_reach,
)
from keras_moe.backend._running import num_replicas as num_replicas
from keras_moe.backend._running import records_are_kept as records_are_kept
from keras_moe.backend._running import (
    refuse_ignored_distribution as refuse_ignored_distribution,
)
from keras_moe.backend._running import (
    refuse_recomputation as refuse_recomputation,
)
from keras_moe.backend._running import (
    shapes_must_be_static as shapes_must_be_static,
)
from keras_moe.backend._running import value_now as value_now
from keras_moe.backend._running import without_traces as without_traces
from keras_moe.backend._tensors import apply_by_group as apply_by_group
from keras_moe.backend._tensors import approximate_top_k as approximate_top_k
from keras_moe.backend._tensors import batched_product as batched_product
from keras_moe.backend._tensors import dot_rows as dot_rows
from keras_moe.backend._tensors import gather_in_rows as gather_in_rows
from keras_moe.backend._tensors import gather_rows as gather_rows
from keras_moe.backend._tensors import index_of_greatest as index_of_greatest
from keras_moe.backend._tensors import join_bytes as join_bytes
