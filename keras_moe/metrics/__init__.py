"""Metrics of routing, errors in sequences, searches and targets."""

from keras_moe.metrics._edit_distance import edit_distance as edit_distance
from keras_moe.metrics._edit_distance import (
    nearest_reference as nearest_reference,
)
from keras_moe.metrics._edit_distance import (
    sequence_error_rate as sequence_error_rate,
)
from keras_moe.metrics._edit_distance import (
    symbol_error_rate as symbol_error_rate,
)
from keras_moe.metrics._expert_load import ExpertLoad as ExpertLoad
from keras_moe.metrics._relative_variance import (
    RelativeVariance as RelativeVariance,
)
from keras_moe.metrics._routing import expert_counts as expert_counts
from keras_moe.metrics._routing import routing_statistics as routing_statistics
from keras_moe.metrics._search_metric import SearchMetric as SearchMetric
from keras_moe.metrics._supervision_complexity import (
    supervision_complexity as supervision_complexity,
)
from keras_moe.moved_names import find_moved

__getattr__ = find_moved(__name__)
