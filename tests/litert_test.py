"""LiteRT, which has no operations of TensorFlow's, answers as Keras does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.works_with_test import IDS
from tests.works_with_test import LARGE
from tests.works_with_test import make


def interpreted(path, ids):
    interpreter = tf.lite.Interpreter(model_path=str(path))
    (given,) = interpreter.get_input_details()
    (got,) = interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], ids.shape, strict=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], ids)
    interpreter.invoke()
    return interpreter.get_tensor(got["index"])


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize(
    "router, dispatch, batch",
    [
        ("switch", "auto", 4),
        *(
            pytest.param(router, dispatch, batch, marks=LARGE)
            for router, dispatch, batch in [
                ("switch", "auto", None),
                ("switch", "gather", 4),
                ("switch", "einsum", 4),
                ("gshard", "auto", 4),
                ("soft", "auto", 4),
                ("locality_hash", "auto", 4),
            ]
        ),
    ],
)
def test_litert_answers_as_keras(tmp_path, router, dispatch, batch):
    model = make(length=6, router=router, dispatch=dispatch)
    path = tmp_path / "model.tflite"
    signature = [keras.InputSpec("int32", (batch, 6), name="ids")]
    model.export(path, "litert", verbose=False, input_signature=signature)
    for ids in (IDS, IDS[::-1].copy()):
        answers = interpreted(path, ids)
        np.testing.assert_allclose(answers, model(ids), atol=1e-5)
        assert answers.std(axis=0).min() > 1e-3


@LARGE
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("router", ["v_moe", "bias_balanced", "expert_choice"])
def test_routers_that_rank_in_float64_need_tensorflow(tmp_path, router):
    """LiteRT has no such numbers: see `ranking_probabilities`."""
    path = tmp_path / "model.tflite"
    make(length=6, router=router).export(path, "litert", verbose=False)
    with pytest.raises(RuntimeError, match=r"Select TensorFlow op.*FlexMax"):
        interpreted(path, IDS)
