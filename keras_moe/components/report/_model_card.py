"""The text of a model card."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_moe.calibration import Certificate
from keras_moe.components.evaluation._read_evaluation import OVERALL
from keras_moe.models import Cascade
from keras_moe.visualization import LayerLoads

_WORST = 5


def model_card(
    name: str,
    teacher: keras.Model,
    loads: LayerLoads,
    student: keras.Model | None = None,
    certificate: Certificate | None = None,
    evaluation: Mapping[str, Mapping[str, float]] | None = None,
    ranked_by: str | None = None,
) -> str:
    """Describes what is served, and what it was made of, as Markdown.

    After the sections of [Mitchell et al.,
    2019](https://arxiv.org/abs/1810.03993) that can be filled without guessing.

    Args:
        name: of the model.
        teacher: the sparse model.
        loads: where the teacher's tokens go.
        student: what is served, if it is another model; or a cascade.
        certificate: of the student's exits, or of the cascade.
        evaluation: as `read_evaluation` returns it.
        ranked_by: the metric by which slices are worst.

    Returns:
        The text.
    """
    parts = [f"# Model card: {name}\n", "## Models\n"]
    role = "cascade" if isinstance(student, Cascade) else "student"
    models = {"teacher": teacher} | ({role: student} if student else {})
    parts.append(
        _table(
            ("", "parameters", "configuration"),
            [
                (role, f"{model.count_params():,}", _config(model))
                for role, model in models.items()
            ],
        )
    )
    parts.append("## Experts of the teacher\n")
    parts.append(_experts(loads))
    if certificate is not None:
        parts += _guarantee(certificate)
    if evaluation:
        parts.append("## Evaluation\n")
        parts.append(_evaluation(evaluation, ranked_by))
    return "\n".join(parts)


def _guarantee(certificate: Certificate) -> list[str]:
    """Says what is certified, and of what."""
    policy = certificate.policy or {}
    title, what = "Early exit", "expected loss of leaving early"
    names_model, range_ = certificate.fingerprint is not None, ""
    if policy.get("kind") == "cascade":
        title, what = "Cascade", policy["bounds"]
        if what == "risk":
            what = "expected loss of the cascade"
        names_model = bool(policy["stages"])
        low, high = policy["deferral_share"]
        range_ = f" From {low:.1%} to {high:.1%} of the rows are deferred."
    parts = [
        f"## {title}\n",
        "With a probability of at least "
        f"{certificate.confidence_level:g} over the {certificate.n:,} "
        f"calibration examples, the {what} at the threshold "
        f"{certificate.threshold:g} is at most {certificate.tolerance:g}."
        f"{range_} It says nothing of examples of another kind, or of a "
        "single one.\n",
    ]
    if not names_model:
        parts.append(
            "The certificate does not say which model it was granted to.\n"
        )
    return parts


def _config(model: keras.Model) -> str:
    config = getattr(model, "config", None)
    if config is None:
        return type(model).__name__
    shown = ("num_encoder_layers", "num_decoder_layers", "num_experts")
    return ", ".join(
        f"{key} {getattr(config, key)}" for key in shown if hasattr(config, key)
    )


def _experts(loads: LayerLoads) -> str:
    rows = [
        (
            layer,
            str(len(load)),
            f"{load.min():.2f} to {load.max():.2f}",
            str(int((load == 0).sum())),
            f"{dropped:.1%}",
        )
        for layer, load, dropped in zip(
            loads.names, loads.relative(), loads.dropped, strict=True
        )
    ]
    header = ("layer", "experts", "load, 1 is even", "unused", "tokens dropped")
    return _table(header, rows)


def _evaluation(
    evaluation: Mapping[str, Mapping[str, float]], ranked_by: str | None
) -> str:
    overall = evaluation.get(OVERALL, {})
    text = _table(
        ("metric", "all examples"),
        [(metric, f"{value:.4f}") for metric, value in sorted(overall.items())],
    )
    if ranked_by is None:
        return text
    slices = [
        (where, figures[ranked_by])
        for where, figures in evaluation.items()
        if where != OVERALL and ranked_by in figures
    ]
    if not slices:
        return text
    worst = sorted(slices, key=lambda each: each[1], reverse=True)[:_WORST]
    return (
        text
        + "\n"
        + _table(
            ("worst slices", ranked_by),
            [(where, f"{value:.4f}") for where, value in worst],
        )
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
