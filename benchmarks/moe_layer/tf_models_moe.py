"""The file of the TensorFlow Model Garden that holds its MoE layer.

Loaded by its path: to import it as `official.nlp.modeling.layers.moe` would
import every layer of the Model Garden, and all that they need.
"""

import importlib.util
import pathlib
import sys
import sysconfig

_NAME = "official.nlp.modeling.layers.moe"


def _load():
    purelib = pathlib.Path(sysconfig.get_path("purelib"))
    path = (purelib / _NAME.replace(".", "/")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(_NAME, path)
    module = importlib.util.module_from_spec(spec)
    # The file's data classes look up their module in `sys.modules`.
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
    return module


moe = _load()
