"""The models, and whom each is compared with."""

from typing import Any
from typing import NamedTuple

_WIDTHS = {
    "vocab_size": 32128,
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 3072,
    "num_heads": 12,
    "decoder_start_token_id": 0,
}


class Case(NamedTuple):
    """A model, the engine that answers with it beside ours, and how.

    Attributes:
        name: what its figures end in.
        kind: the class of `transformers`.
        config: fields of its config.
        peer: environment and program of the other engine.
        batches: numbers of sources that are answered at once.
    """

    name: str
    kind: str
    config: dict[str, Any]
    peer: str
    batches: tuple[int, ...]


def _switch(experts: int, layers: int) -> dict[str, Any]:
    return {
        **_WIDTHS,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "num_experts": experts,
        "num_sparse_encoder_layers": layers // 2,
        "num_sparse_decoder_layers": layers // 2,
        # As many as a source has tokens: nothing is dropped there, as here.
        "expert_capacity": 64,
    }


_T5 = {**_WIDTHS, "num_layers": 12, "num_decoder_layers": 12}

CASES = (
    Case("e8", "SwitchTransformers", _switch(8, 12), "transformers", (1, 8)),
    Case("e64", "SwitchTransformers", _switch(64, 2), "transformers", (1,)),
    Case("t5", "T5", _T5, "ctranslate2", (1, 8)),
)
_SMALL = {
    "vocab_size": 60,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_heads": 2,
    "num_layers": 2,
    "num_decoder_layers": 2,
}


def small(case: Case) -> Case:
    """Returns a case whose model is as good as none."""
    sparse = {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    given = sparse if case.kind == "SwitchTransformers" else {}
    return case._replace(
        name=f"{case.name}_small", config={**case.config, **_SMALL, **given}
    )
