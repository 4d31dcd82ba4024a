"""openSMILE's own Python package, as what ours is held to."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import opensmile
from numpy.typing import NDArray

from callscope.feature_sets import EGEMAPS_FUNCTIONALS
from processors.records import Pcm

Floats = NDArray[np.float32]
Window = tuple[int, int]
"""First row and the row after the last."""

SHORTEST = 4
"""Rows: shorter intervals openSMILE makes longer."""


def batch(pcm: Pcm) -> tuple[Floats, Floats]:
    """Descriptors and functionals of a whole recording."""
    signal = pcm.astype(np.float32) / 32_768
    levels = (opensmile.FeatureLevel.LowLevelDescriptors, opensmile.FeatureLevel.Functionals)
    llds, functionals = (
        opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, level).process_signal(signal, 16_000).to_numpy()
        for level in levels
    )
    return llds, functionals[0]


def functionals_of(pcm: Pcm, windows: list[Window]) -> Floats:
    """Functionals of these rows of one recording, by openSMILE's interval mode."""
    intervals = ",".join(f"{first}-{end - 1}" for first, end in windows)
    with TemporaryDirectory() as folder:
        conf = Path(folder) / "intervals.conf.inc"
        conf.write_text(f"frameMode = list\nframeList = {intervals}\nframeSize = 0\nframeStep = 0\n")
        smile = opensmile.Smile(
            opensmile.FeatureSet.eGeMAPSv02,
            opensmile.FeatureLevel.Functionals,
            options={"frameModeFunctionalsConf": str(conf)},
        )
        values: Floats = smile.process_signal(pcm.astype(np.float32) / 32_768, 16_000).to_numpy(np.float32)
    assert tuple(smile.column_names) == EGEMAPS_FUNCTIONALS
    return values


def assert_same_functionals(ours: Floats, theirs: Floats, windows: list[Window]) -> None:
    """To within 1e-4 relative; there are no exceptions."""
    off = ~np.isclose(ours, theirs, rtol=1e-4, atol=0)
    assert not off.any(), [
        (windows[w], EGEMAPS_FUNCTIONALS[f], ours[w, f], theirs[w, f]) for w, f in np.argwhere(off)[:10].tolist()
    ]
