"""Which of several keys for the same thing holds: the one that was set last.

Settings come in layers: a file over the files that it builds on, the command line over the file. In one layer the keys
of UNSET hold wherever they aren't at the value given there.
"""

from collections.abc import Mapping
from typing import Any

from .architectures import CLASS_KEYS

# Values at which keys leave their part to another key.
UNSET = {
    "SOLVER.MAX_ITER": 0,
    "SOLVER.STEPS": (),
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.ACCUMULATION_STEPS": 0,
    "SOLVER.MAX_IMS_PER_PASS": 0,
    "SOLVER.IMAGES_PER_EPOCH": 0,
    "TEST.EVAL_EPOCHS": 0.0,
    "TEST.PROBE_EPOCHS": 0.0,
}

# What a key replaces in the layers below.
REPLACED = {
    "SOLVER.MAX_EPOCHS": ("SOLVER.MAX_ITER", "SOLVER.IMAGES_PER_EPOCH"),
    "SOLVER.STEP_FRACTIONS": ("SOLVER.STEPS",),
    "SOLVER.WARMUP_EPOCHS": ("SOLVER.IMAGES_PER_EPOCH",),
    "SOLVER.WARMUP_ITERS": ("SOLVER.WARMUP_EPOCHS",),
    "SOLVER.ACCUMULATION_STEPS": ("SOLVER.MAX_IMS_PER_PASS",),
    "SOLVER.MAX_IMS_PER_PASS": ("SOLVER.ACCUMULATION_STEPS",),
    "TEST.EVAL_EPOCHS": ("SOLVER.IMAGES_PER_EPOCH",),
    "TEST.PROBE_EPOCHS": ("SOLVER.IMAGES_PER_EPOCH",),
    "TEST.EVAL_PERIOD": ("TEST.EVAL_EPOCHS",),
    "DATASETS.CATEGORIES": tuple(CLASS_KEYS.values()),  # which follow from it as long as they aren't set
}


def find_replaced(layer: Mapping[str, Any]) -> set[str]:
    """Finds the keys that the settings of a layer replace in all layers below it."""
    active = {key for key, value in layer.items() if key in REPLACED and value != UNSET.get(key)}
    return {other for key in active for other in REPLACED[key]} - layer.keys()
