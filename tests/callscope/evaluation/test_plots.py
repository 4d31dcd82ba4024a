from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np

from callscope.evaluation import plots

NAME = "<b>$\\frac$ & co"
"""A name that must be shown, and neither read as markup nor as a formula."""


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_names_are_shown_as_they_are() -> None:
    curve = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    for svg in (
        plots.roc({NAME: (curve, (0.1, 0.9))}),
        plots.errors({NAME: [1.0, -20.0]}, "late, ms"),
        plots.bars({NAME: {NAME: (0.5, np.nan, np.nan)}}, "F1"),
        plots.agreement({NAME: [(0.1, 0.2)]}, "arousal"),
    ):
        assert NAME in texts(svg)


def test_nothing_can_be_drawn_too() -> None:
    nothing = np.zeros(0)
    assert "found" in "".join(texts(plots.roc({"a": ((nothing, nothing), None)})))
    assert "late, ms" in texts(plots.errors({"a": [], "b": []}, "late, ms"))
    assert "x, by the labels" in texts(plots.agreement({"a": []}, "x"))
