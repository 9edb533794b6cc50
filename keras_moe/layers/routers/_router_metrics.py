"""What routers measure, and whether a model reports it."""

import keras
from keras import ops

from keras_moe.backend import loops_keep_metrics
from keras_moe.backend import metrics_are_in_reach
from keras_moe.layers.routers._replica_losses import ReplicaLosses
from keras_moe.metrics import ExpertLoad
from keras_moe.metrics import expert_counts
from keras_moe.metrics import routing_statistics
from keras_moe.ops import RoutingPlan
from keras_moe.ops import SoftRoutingPlan
from keras_moe.types import Tensor

_MEANS = (
    "auxiliary_loss",
    "router_z_loss",
    "fraction_tokens_left_behind",
    "router_confidence",
    "expert_usage",
    "router_entropy",
)


class RouterMetrics(ReplicaLosses):
    """A layer with the metrics of a router.

    Args:
        report_metrics: whether they are among the model's metrics.
        **kwargs: see `keras.layers.Layer`.

    Attributes:
        trackers: name to running mean of each figure of `routing_statistics`,
            and of the two losses before their weights.
        expert_load: `keras_moe.metrics.ExpertLoad` of the layer.
    """

    def __init__(self, report_metrics: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.report_metrics = report_metrics

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What a model reports of the router.

        On JAX nothing, since all would be 0: see `loops_keep_metrics`.
        """
        reported = self.report_metrics and loops_keep_metrics()
        return super().metrics if reported else []

    def add_metrics(self, num_experts: int) -> None:
        """Makes the metrics."""
        # Readers of logs look for the sparse layer, not for its router.
        prefix = self.path.rsplit("/", 1)[0]
        self.trackers = {
            name: keras.metrics.Mean(name=f"{prefix}/{name}") for name in _MEANS
        }
        self.expert_load = ExpertLoad(
            num_experts, name=f"{prefix}/expert_load_cv"
        )

    def reset_metrics(self) -> None:
        """Forgets what was measured, reported or not."""
        for metric in (*self.trackers.values(), self.expert_load):
            metric.reset_state()

    def update_metrics(
        self,
        plan: RoutingPlan | SoftRoutingPlan,
        real: Tensor,
        auxiliary_loss: Tensor,
        router_z_loss: Tensor,
    ) -> None:
        """Measures a plan.

        Args:
            plan: what `route` returned.
            real: bool `[groups, tokens]`, false for padding.
            auxiliary_loss: the plan's, before its weight.
            router_z_loss: likewise.
        """
        if not metrics_are_in_reach():
            return
        statistics = routing_statistics(plan, real)
        statistics["auxiliary_loss"] = auxiliary_loss
        statistics["router_z_loss"] = router_z_loss
        tokens = ops.cast(ops.sum(ops.cast(real, "int32")), "float32")
        for name, value in statistics.items():
            tracker = self.trackers[name]
            # What `update_state` does with two scalars. It makes a dozen
            # operations more, to bring arrays of any shapes together.
            tracker.total.assign_add(value * tokens)
            tracker.count.assign_add(tokens)
        self.expert_load.update_state(expert_counts(plan, real))
