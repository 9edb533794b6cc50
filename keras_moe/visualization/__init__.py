"""Pictures of what a model does; drawing them needs the `[viz]` extra.

Matplotlib is loaded where a picture is drawn; the figures are made without
`pyplot`, so they open no window and need no `close`.
"""

from keras_moe.visualization._collect_expert_load import (
    collect_expert_load as collect_expert_load,
)
from keras_moe.visualization._exit_depth_html import (
    exit_depth_html as exit_depth_html,
)
from keras_moe.visualization._expert_load_callback import (
    ExpertLoadCallback as ExpertLoadCallback,
)
from keras_moe.visualization._layer_loads import LayerLoads as LayerLoads
from keras_moe.visualization._plot_exit_depth import (
    plot_exit_depth as plot_exit_depth,
)
from keras_moe.visualization._plot_expert_load import (
    plot_expert_load as plot_expert_load,
)
from keras_moe.visualization._plot_feature_curve import (
    plot_feature_curve as plot_feature_curve,
)
from keras_moe.visualization._plot_risk_versus_speed import (
    plot_risk_versus_speed as plot_risk_versus_speed,
)
