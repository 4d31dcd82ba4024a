"""The features of a window that a model may ask for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log10
from typing import TypeAlias

from callscope.feature_sets import EGEMAPS_FUNCTIONALS
from processors.records import RATE_HZ, FeatureWindow, VoiceSummary

Feature: TypeAlias = Callable[[FeatureWindow], float | None]


def _summarised(name: str) -> Feature:
    return lambda window: getattr(window.summary, name)


def _functional(position: int) -> Feature:
    return lambda window: float(window.functionals[position]) if len(window.functionals) else None


def _loudness_db(window: FeatureWindow) -> float | None:
    loudness = window.summary.loudness_mean
    return 10 * log10(loudness) if loudness > 0 else None


NAMED_FEATURES: Mapping[str, Feature] = {
    **{name: _summarised(name) for name in VoiceSummary.__dataclass_fields__},
    "loudness_db": _loudness_db,
    **{name: _functional(position) for position, name in enumerate(EGEMAPS_FUNCTIONALS)},
}
"""The fields of `VoiceSummary`; `loudness_db`, 10 log10 of `loudness_mean`; the 88 functionals by openSMILE's names.
None where the window has no such thing."""


def voiced_s(window: FeatureWindow) -> float:
    """Seconds of the window in which a pitch was found."""
    return window.summary.voiced_share * window.duration / RATE_HZ
