"""The report's plots, as SVG to be put into the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = ("#2563eb", "#ea580c")
"""Of A and of B, told apart by people who are colour-blind too; the page uses the same."""
_INK, _FAINT = "#334155", "#e2e8f0"

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def roc(curves: Mapping[str, tuple[Curve, tuple[float, float] | None]]) -> str:
    """ROC curves with the points that the decisions are at.

    Args:
        curves: by name: false-alarm and hit rates; and those of the decision, if there is one.
    """

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1)
        for (name, ((alarms, hits), point)), colour in zip(curves.items(), COLOURS, strict=False):
            axes.plot(alarms, hits, color=colour, linewidth=1.8, label=name)
            if point is not None:
                axes.plot(*point, "o", color=colour, markersize=6)
        axes.set_xlabel("false alarms, share of the rest")
        axes.set_ylabel("found, share of what should be")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.legend(loc="lower right", frameon=False)

    return _drawn("roc" + "".join(curves), draw, (3.4, 3.3))


def errors(values_ms: Mapping[str, Sequence[float]], what: str, widest_ms: float = 500.0) -> str:
    """Histograms of errors of time, milliseconds.

    Args:
        values_ms: by name.
        what: the axis' caption.
        widest_ms: the axis goes from minus this to this.
    """

    def draw(axes: Any) -> None:
        edges = np.linspace(-widest_ms, widest_ms, 26)
        axes.axvline(0, color=_INK, linewidth=0.8)
        for (name, errors_ms), colour in zip(values_ms.items(), COLOURS, strict=False):
            axes.hist(errors_ms, edges, color=colour, alpha=0.45, label=name)
            if len(errors_ms):
                axes.axvline(float(np.median(errors_ms)), color=colour, linewidth=1.6, linestyle="--")
        axes.set_xlabel(what)
        axes.set_ylabel("how many")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)

    return _drawn(f"errors {what}" + "".join(values_ms), draw, (3.6, 3.3))


def bars(groups: Mapping[str, Mapping[str, tuple[float, float, float]]], what: str) -> str:
    """A score under each condition, with its interval.

    Args:
        groups: condition → name → value, lower and upper end.
        what: the axis' caption.
    """

    def draw(axes: Any) -> None:
        names = list(dict.fromkeys(name for group in groups.values() for name in group))
        width = 0.7 / max(1, len(names))
        for i, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
            at = np.arange(len(groups)) + (i - (len(names) - 1) / 2) * width
            found = [group.get(name, (np.nan,) * 3) for group in groups.values()]
            heights = np.array([value for value, _, _ in found])
            spread = np.clip([[v - low for v, low, _ in found], [high - v for v, _, high in found]], 0, None)
            axes.bar(at, heights, width * 0.9, color=colour, alpha=0.75, label=name)
            axes.errorbar(at, heights, np.nan_to_num(spread), fmt="none", ecolor=_INK, capsize=3, linewidth=1)
        axes.set_xticks(np.arange(len(groups)), list(groups))
        axes.set_ylabel(what)
        axes.set_ylim(0, 1.05)
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names))

    return _drawn(f"bars {what}" + "".join(groups), draw, (max(4.0, 1.2 * len(groups)), 3.0))


def agreement(pairs: Mapping[str, Sequence[tuple[float, float]]], what: str) -> str:
    """Labelled against given values.

    Args:
        pairs: by name: label and output.
        what: which quantity.
    """

    def draw(axes: Any) -> None:
        for (name, found), colour in zip(pairs.items(), COLOURS, strict=False):
            labelled, said = [label for label, _ in found], [value for _, value in found]
            axes.scatter(labelled, said, s=14, color=colour, alpha=0.5, label=name)
        axes.axline((0, 0), slope=1, color=_FAINT, linewidth=1)
        axes.set_xlabel(f"{what}, by the labels")
        axes.set_ylabel(f"{what}, by the model")
        axes.legend(frameon=False)

    return _drawn(f"agreement {what}" + "".join(pairs), draw, (3.4, 3.3))


def _drawn(name: str, draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    """A figure as SVG that can stand beside others in one page: its ids are made from its name."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(
        {
            "svg.fonttype": "none",
            "text.parse_math": False,  # a "$" in a name is a "$"
            "svg.hashsalt": name,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 9,
            "axes.edgecolor": _INK,
            "axes.labelcolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r"font: ([\d.]+)px '[^']*'(, [^;\"]*)?", r"font: \1px system-ui, sans-serif", svg)
