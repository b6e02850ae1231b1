"""Values as JSON can hold them."""

import math
from typing import Any

import numpy as np


def json_ready(value: Any) -> Any:
    """Replace what JSON cannot hold: NaN and infinities become null, numpy numbers plain ones."""
    if isinstance(value, dict):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, np.generic):
        return json_ready(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
