"""Our inverse DFT against openSMILE's own, function by function: the same floats, to the bit."""

from __future__ import annotations

import ctypes
import shutil
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.stages.opensmile_engine import OWN_RESAMPLING


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.smileDsp_initIrdft.restype = ctypes.c_void_p
    library.smileDsp_initIrdft.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_double]
    library.smileDsp_irdft.argtypes = [ctypes.c_void_p] * 3
    library.smileDsp_freeDftwork.argtypes = [ctypes.c_void_p]
    return library


@pytest.fixture(scope="module")
def libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    if not OWN_RESAMPLING.is_file():
        assert shutil.which("cc") is None, "there is a C compiler, but nothing was compiled at installation"
        pytest.skip("not compiled: there was no C compiler when the project was installed")
    spec = util.find_spec("opensmile")
    assert spec is not None and spec.submodule_search_locations
    (theirs,) = Path(spec.submodule_search_locations[0]).glob("core/bin/*/libSMILEapi.so")
    return _load(OWN_RESAMPLING), _load(theirs)


def _transform(library: ctypes.CDLL, spectrum: np.ndarray, samples: int, anti_alias: bool, divisor: float) -> bytes:
    work = library.smileDsp_initIrdft(len(spectrum), samples, anti_alias, divisor)
    out = np.full(samples + 1, 7.0, np.float32)
    library.smileDsp_irdft(spectrum.ctypes.data, out.ctypes.data, work)
    library.smileDsp_freeDftwork(work)
    assert out[-1] == 7.0, "wrote beyond the end"
    return out[:-1].tobytes()


@settings(max_examples=60)
@given(
    half=st.integers(2, 260),
    samples=st.integers(2, 400),
    anti_alias=st.booleans(),
    stretch=st.floats(0.5, 2.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_bit_is_openSMILEs(
    libraries: tuple[ctypes.CDLL, ctypes.CDLL], half: int, samples: int, anti_alias: bool, stretch: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    spectrum = (rng.normal(0, 1, 2 * half) * 10.0 ** rng.uniform(-6, 6, 2 * half)).astype(np.float32)
    ours, theirs = (_transform(library, spectrum, samples, anti_alias, samples * stretch) for library in libraries)
    assert ours == theirs


def test_instances_with_equal_settings_share_their_tables(libraries: tuple[ctypes.CDLL, ctypes.CDLL]) -> None:
    ours, _ = libraries
    one, same, other = (ours.smileDsp_initIrdft(256, samples, 1, 256.0) for samples in (176, 176, 178))
    assert one == same != other
    for work in (one, same, other):
        ours.smileDsp_freeDftwork(work)
