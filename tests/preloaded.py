"""What processes of their own find imported: see `tests.forked`."""

import gc
import importlib

# To look for garbage takes a third of the time of imports.
gc.disable()
for name in ("tensorflow", "keras"):
    importlib.import_module(name)
gc.freeze()
gc.enable()
