import io

import numpy as np
import pytest
import soundfile

from ingest.audio.g711 import A_LAW, MU_LAW, decode_a_law, decode_mu_law

ALL_CODES = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize(("subtype", "table"), [("ULAW", MU_LAW), ("ALAW", A_LAW)])
def test_whole_table_is_that_of_libsndfile(subtype: str, table: np.ndarray) -> None:
    samples, _ = soundfile.read(
        io.BytesIO(ALL_CODES.tobytes()), format="RAW", subtype=subtype, channels=1, samplerate=8_000, dtype="int16"
    )
    assert table.tolist() == samples.tolist()


@pytest.mark.parametrize(
    ("code", "linear"),
    # G.711 table 2a/2b: code words of the extreme and the smallest values, 14-bit outputs shifted to 16.
    [(0x80, 32_124), (0x00, -32_124), (0xFF, 0), (0x7F, 0), (0xFE, 8), (0x7E, -8), (0x8F, 16_764)],
)
def test_mu_law_values_of_the_recommendation(code: int, linear: int) -> None:
    assert decode_mu_law(np.array([code], np.uint8))[0] == linear


@pytest.mark.parametrize(
    ("code", "linear"),
    # G.711 table 1a/1b: 13-bit outputs shifted to 16; the smallest value is half a step, not 0.
    [(0xAA, 32_256), (0x2A, -32_256), (0xD5, 8), (0x55, -8), (0xD4, 24)],
)
def test_a_law_values_of_the_recommendation(code: int, linear: int) -> None:
    assert decode_a_law(np.array([code], np.uint8))[0] == linear


def test_mu_law_by_the_formula_of_the_recommendation() -> None:
    for code in range(256):
        inverted = ~code & 0xFF
        sign, segment, step = inverted >> 7, inverted >> 4 & 7, inverted & 15
        value = 2**segment * (2 * step + 33) - 33  # table 2a, note 5
        assert MU_LAW[code] == 4 * (-value if sign else value)


def test_tables_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        MU_LAW[0] = 1
