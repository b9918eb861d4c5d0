"""Hypothesis strategies for numpy arrays: any dtype that travels, any layout."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra import numpy as hnp

DTYPES = (
    hnp.scalar_dtypes()
    | hnp.byte_string_dtypes(min_len=1)
    | hnp.unicode_string_dtypes(min_len=1)
    | hnp.array_dtypes(max_size=3)
)
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@st.composite
def any_layout(draw: st.DrawFn) -> np.ndarray:
    """An array with its axes in any order, each with steps forwards or backwards."""
    array = draw(ARRAYS)
    axes = draw(st.permutations(range(array.ndim)))
    steps = [slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in axes]
    return array.transpose(axes)[(..., *steps)]
