"""Which examples to learn from, and how much each counts."""

from keras_moe.data._entropy_selector import EntropySelector as EntropySelector
from keras_moe.data._example_weights import (
    with_example_weights as with_example_weights,
)
from keras_moe.data._importance_selector import (
    ImportanceSelector as ImportanceSelector,
)
from keras_moe.data._introspective_replay import (
    IntrospectiveReplay as IntrospectiveReplay,
)
from keras_moe.data._margin_selector import MarginSelector as MarginSelector
from keras_moe.data._random_selector import RandomSelector as RandomSelector
from keras_moe.data._reverse_replay import ReverseReplay as ReverseReplay
from keras_moe.data._robust_active_selector import (
    RobustActiveSelector as RobustActiveSelector,
)
from keras_moe.data._select_in_rounds import (
    select_in_rounds as select_in_rounds,
)
from keras_moe.data._selection import Selection as Selection
from keras_moe.data._selector import Selector as Selector
