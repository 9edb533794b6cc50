"""Sparse upcycling: a sparse model out of a dense one."""

import inspect
import logging
from collections.abc import Callable
from collections.abc import Iterable
from typing import TypeAlias

import keras

from keras_moe.conversion._choose_sites import CONVERTIBLE
from keras_moe.conversion._choose_sites import Block
from keras_moe.conversion._choose_sites import choose_sites
from keras_moe.conversion._feed_forward_site import FeedForwardSite
from keras_moe.conversion._find_feed_forwards import find_feed_forwards
from keras_moe.conversion._find_feed_forwards import is_graph
from keras_moe.conversion._sparse_copy import SparseCopy
from keras_moe.conversion._transfer_weights import transfer_weights
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import Router
from keras_moe.layers import SparseMoE
from keras_moe.layers import TopKRouter
from keras_moe.models import SwitchTransformer
from keras_moe.types import Config
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_rate
from keras_moe.validation import check_size
from keras_moe.weights import TransferReport

RouterLike: TypeAlias = str | Router | Callable[..., str | Router]

_logger = logging.getLogger(__name__)


def upcycle(
    dense: keras.Model,
    num_experts: int,
    router: RouterLike | None = None,
    blocks: Iterable[Block] | None = None,
    moe_every: int = 2,
    noise: float = 0.0,
    expert_dropout_rate: float | None = None,
    dispatch: str = "auto",
    seed: int | None = None,
    return_report: bool = False,
) -> keras.Model | tuple[keras.Model, TransferReport]:
    """Makes a sparse model whose experts start as copies of a dense network.

    Of a dense `SwitchTransformer`, and of Functional and Sequential models
    whose feed-forward networks `find_feed_forwards` finds: layers that the
    model's graph shows, and networks in the blocks of KerasHub's backbones
    (BERT, RoBERTa, T5 and their like), each of which becomes a
    `keras_moe.layers.SplicedBlock`. Networks inside of other layers of others
    and subclassed models are refused by name.

    Every weight of the dense model is in the new one: those of the converted
    feed-forward networks once for each expert, all others once. Routers start
    afresh. The dense model is not touched; optimiser state is not taken over.

    The default router chooses two experts and normalises their gates to a sum
    of one. Experts being equal, the new model's first outputs are then those
    of the dense one, wherever the mask is true (padding comes out of a sparse
    layer as zero). So it is with every router whose gates sum to one and that
    drops no token; outside of training none is dropped by default. Gates that
    do not sum to one, those of `"switch"` and of expert choice, scale the
    outputs down at first, and training has to make up for it.

    Source: [Komatsuzaki et al., 2022](https://arxiv.org/abs/2212.05055),
    where half of the blocks become sparse, by expert choice in the encoder and
    top-2 routing in the decoder. Theirs is
    `router=lambda name: "expert_choice" if "encoder" in name else "glam"`.

    Args:
        dense: a dense `SwitchTransformer`, or a Functional or Sequential
            model, nested or not, with feed-forward networks that
            `find_feed_forwards` finds.
        num_experts: number of experts of each sparse layer.
        router: how the sparse layers route: a name or a
            `keras_moe.layers.Router`, of which each gets a copy; or a function
            that returns either and is called for each layer, with its name if
            it takes an argument. For a `SwitchTransformer` it is a name, or a
            function of `"encoder"` or `"decoder"` that returns one. `None` is
            top-2 as above. A layer that must be causal needs a causal router.
        blocks: which feed-forward networks become sparse: numbers (from 0, of
            those that were found) or names, a pair of names for two `Dense`
            layers. `None` leaves it to `moe_every`.
        moe_every: every how many networks one becomes sparse (2: the second,
            the fourth, ...; the last, where there are fewer), and for a
            `SwitchTransformer` every how many blocks of encoder and decoder.
        noise: standard deviation of Gaussian noise on each expert's kernels,
            as a share of the kernel's own.
        expert_dropout_rate: dropout inside experts; `None` keeps the dense
            network's.
        dispatch: `dispatch` of the sparse layers; those of a
            `SwitchTransformer` choose for themselves.
        seed: seed of the noise.
        return_report: whether to return a report, too.

    Returns:
        The sparse model, compiled as the dense one was; with `return_report`,
        it and a `keras_moe.weights.TransferReport`: weights of experts are
        merged, routers fresh.

    Raises:
        ValueError: if the model, or a network in `blocks`, cannot be
            converted, or an argument is out of its range.

    Example:

    >>> inputs = keras.Input((None, 16))
    >>> x = inputs
    >>> for _ in range(2):
    ...     hidden = keras.layers.Dense(64, activation="relu")(x)
    ...     x = keras.layers.Add()([x, keras.layers.Dense(16)(hidden)])
    >>> dense = keras.Model(inputs, x)
    >>> sparse = keras_moe.conversion.upcycle(dense, num_experts=4)
    >>> data = np.random.rand(2, 5, 16)
    >>> np.allclose(sparse(data), dense(data), atol=1e-5)
    True
    """
    check_size(num_experts=num_experts, moe_every=moe_every)
    check_not_negative(noise=noise)
    if expert_dropout_rate is not None:
        check_rate(expert_dropout_rate=expert_dropout_rate)
    _check_model(dense)
    pairs = SparseCopy()
    if isinstance(dense, SwitchTransformer):
        _check_transformer(dense, blocks, moe_every)
        changes: Config = {
            f"{stack}_router": _router_name(router, stack, num_experts)
            for stack in ("encoder", "decoder")
        }
        if expert_dropout_rate is not None:
            changes["expert_dropout_rate"] = expert_dropout_rate
        model = pairs.copy_transformer(
            dense, num_experts=num_experts, moe_every=moe_every, **changes
        )
    else:

        def make_sparse(site: FeedForwardSite) -> SparseMoE:
            rate = expert_dropout_rate
            return SparseMoE(
                num_experts,
                site.inner.units,
                router=_router_for(router, site.name, num_experts),
                activation=site.activation,
                dispatch=dispatch,
                gated=site.gate is not None,
                use_bias=site.use_bias,
                expert_dropout_rate=site.dropout_rate if rate is None else rate,
                causal=site.causal,
                trainable=site.replaced.trainable,
                dtype=site.replaced.dtype_policy,
                name=site.replaced.name,
            )

        sites = choose_sites(find_feed_forwards(dense), blocks, moe_every)
        model = pairs.copy_graph(dense, sites, make_sparse)
    report = transfer_weights(dense, model, pairs, noise, seed)
    converted = ", ".join(site.name for site, _ in pairs.sparse)
    _logger.info("upcycled: %s\n%s", converted, report)
    return (model, report) if return_report else model


def _check_model(dense: keras.Model) -> None:
    if not isinstance(dense, SwitchTransformer) and not is_graph(dense):
        raise ValueError(
            f"`dense` must be {CONVERTIBLE}. What a subclassed model consists "
            f"of is not known. Received: dense={dense!r}."
        )
    if not dense.built:
        raise ValueError(
            "`dense` must be built: give its first layer an input, or call it "
            f"on data. Received: dense={dense!r}."
        )
    for layer in flatten_layers(dense):
        if layer.quantization_mode is not None:
            raise ValueError(
                "`dense` must not be quantised; quantise the sparse model. "
                f"Received: {layer.path} in {layer.quantization_mode}."
            )


def _check_transformer(
    dense: SwitchTransformer, blocks: Iterable[Block] | None, moe_every: int
) -> None:
    if blocks is not None:
        raise ValueError(
            "Which blocks of a `SwitchTransformer` become sparse is said by "
            f"`moe_every`, and `blocks` must be None. Received: "
            f"blocks={blocks!r}."
        )
    if dense.config.num_experts:
        raise ValueError(
            "`dense` must have no experts yet: one made with num_experts=0 is "
            "dense. Received: "
            f"num_experts={dense.config.num_experts}."
        )
    if moe_every > max(
        dense.config.num_encoder_layers, dense.config.num_decoder_layers
    ):
        raise ValueError(
            "`moe_every` must leave a block to become sparse. Received: "
            f"moe_every={moe_every}, "
            f"num_encoder_layers={dense.config.num_encoder_layers}, "
            f"num_decoder_layers={dense.config.num_decoder_layers}."
        )


def _router_for(
    router: RouterLike | None, name: str, num_experts: int
) -> str | Router:
    """Returns what a sparse layer takes as its router, one for each."""
    if router is None:
        return TopKRouter(
            num_selected_experts=min(2, num_experts),
            normalization="before_drop",
            name="router",
        )
    if isinstance(router, str):
        return router
    if isinstance(router, Router):
        return type(router).from_config(router.get_config())
    if not callable(router):
        raise ValueError(
            "`router` must be a name, a `keras_moe.layers.Router`, or a "
            f"function that returns one. Received: router={router!r}."
        )
    needed = [
        parameter
        for parameter in inspect.signature(router).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return router(name) if needed else router()


def _router_name(
    router: RouterLike | None, stack: str, num_experts: int
) -> str:
    """Returns what the config of a `SwitchTransformer` has as its router."""
    if router is None:
        # With one expert, top-k's normalised gate would always be 1 and teach
        # the router nothing: "switch" does not normalise.
        return "top_k" if num_experts > 1 else "switch"
    name = router if isinstance(router, str) else None
    if callable(router) and not isinstance(router, Router):
        name = _router_for(router, stack, num_experts)
    if not isinstance(name, str):
        raise ValueError(
            "`router` must be the name of a router, or a function that "
            "returns one, for a `SwitchTransformer`, whose config holds it. "
            f"Received: router={router!r}."
        )
    return name
