"""The features of a window that a model may ask for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log10

from processors.records import RATE_HZ, FeatureWindow


def _loudness_db(window: FeatureWindow) -> float | None:
    loudness = window.summary.loudness_mean
    return 10 * log10(loudness) if loudness > 0 else None


NAMED_FEATURES: Mapping[str, Callable[[FeatureWindow], float | None]] = {
    "voiced_share": lambda window: window.summary.voiced_share,
    "f0_mean": lambda window: window.summary.f0_mean,
    "f0_stddev": lambda window: window.summary.f0_stddev,
    "loudness_mean": lambda window: window.summary.loudness_mean,
    "loudness_db": _loudness_db,
    "alpha_ratio_mean": lambda window: window.summary.alpha_ratio_mean,
    "hammarberg_mean": lambda window: window.summary.hammarberg_mean,
}
"""As in `VoiceSummary`; `loudness_db` is 10 log10 of `loudness_mean`. None where the window has no such thing."""


def voiced_s(window: FeatureWindow) -> float:
    """Seconds of the window in which a pitch was found."""
    return window.summary.voiced_share * window.duration / RATE_HZ
