"""G.711 mu-law and A-law to linear samples, by a table of all 256 codes.

The tables follow ITU-T Recommendation G.711 (11/1988), tables 1a to 2b, with the decoder outputs (14 bits for mu-law,
13 bits for A-law) shifted up to 16 bits, as every telephony library has them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_CODES: Final = np.arange(256, dtype=np.int32)
_MU_BIAS: Final = 33  # G.711 section 3.2: the decision values of a segment start at 33 * 2**segment - 33


def _mu_law_table() -> NDArray[np.int16]:
    bits = _CODES ^ 0xFF  # all bits are inverted on the wire
    segment = (bits >> 4) & 0x07
    magnitude = (((bits & 0x0F) * 2 + _MU_BIAS) << segment) - _MU_BIAS
    linear = np.where(bits & 0x80, -magnitude, magnitude)
    return (linear * 4).astype(np.int16)


def _a_law_table() -> NDArray[np.int16]:
    bits = _CODES ^ 0x55  # even bits are inverted on the wire
    segment = (bits >> 4) & 0x07
    step = (bits & 0x0F) * 2 + 1
    magnitude = np.where(segment == 0, step, (step + 32) << np.maximum(segment - 1, 0))
    linear = np.where(bits & 0x80, magnitude, -magnitude)
    return (linear * 8).astype(np.int16)


MU_LAW: Final = _mu_law_table()
"""Linear value of each mu-law code, int16, shape (256,), range -32124 to 32124."""
A_LAW: Final = _a_law_table()
"""Linear value of each A-law code, int16, shape (256,), range -32256 to 32256."""
MU_LAW.setflags(write=False)
A_LAW.setflags(write=False)


def decode_mu_law(codes: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Linear samples of mu-law codes, of the same shape."""
    return MU_LAW[codes]


def decode_a_law(codes: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Linear samples of A-law codes, of the same shape."""
    return A_LAW[codes]
