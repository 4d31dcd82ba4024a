"""Models' outputs against labels: ROC-AUC of a class, agreement of continuous values, recall of classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from callscope.evaluation.scores import NAN, auc, ccc, confusion, share, uar

_FORM = re.compile(r"(?P<output>[^=:/,]+)=(?P<column>[^=:/,]+)(:(?P<positive>[^=:/]+)(/(?P<negative>[^=:/]+))?)?")


@dataclass(frozen=True, slots=True)
class Target:
    """What is scored against what.

    Attributes:
        output: an output's name; for "uar" a model's.
        column: of the labels.
        kind: "auc": the output should be higher where the label is one of `positive` than where it is one of
            `negative`. "ccc": label and output are the same quantity. "uar": the model's highest output names a class.
        positive: labels.
        negative: labels; empty: all others.
    """

    output: str
    column: str
    kind: Literal["auc", "ccc", "uar"]
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What its metrics are called by."""
        return self.output if self.column == self.output else f"{self.output}~{self.column}"


def parse_target(text: str, numeric: bool, models: Mapping[str, Sequence[str]]) -> Target:
    """A target as the command line has it: `output=column`, `output=column:yes,ja` or `output=column:yes/no`.

    Args:
        text: what to read.
        numeric: whether all labels of its column are numbers.
        models: the run's models and their outputs.

    Raises:
        ValueError: it cannot be read, or fits neither labels nor models; says why.
    """
    read = _FORM.fullmatch(text.strip())
    if read is None:
        raise ValueError(f"{text!r} is not of the form OUTPUT=COLUMN, OUTPUT=COLUMN:LABEL,… or …:LABEL,…/LABEL,…")
    output, column = read["output"], read["column"]
    if read["positive"]:
        classes = (tuple((read[side] or "").split(",")) if read[side] else () for side in ("positive", "negative"))
        return Target(output, column, "auc", *classes)
    if numeric:
        return Target(output, column, "ccc")
    if len(models.get(output, ())) > 1:
        return Target(output, column, "uar")
    raise ValueError(f"{text}: the labels of {column!r} are classes; say which of them should be high: {text}:LABEL,…")


def usual_targets(columns: Mapping[str, bool], models: Mapping[str, Sequence[str]]) -> tuple[Target, ...]:
    """What goes together by name: columns of numbers with outputs, columns of classes with models of several outputs.

    Args:
        columns: of the labels, and whether all that is in them are numbers.
        models: the run's models and their outputs.
    """
    outputs = {output for names in models.values() for output in names}
    return tuple(
        Target(column, column, "ccc" if numeric else "uar")
        for column, numeric in columns.items()
        if (numeric and column in outputs) or (not numeric and len(models.get(column, ())) > 1)
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """One label and what the model said where it is.

    Attributes:
        label: as it is written.
        values: the target's output, or for "uar" all of the model's, by name; None where unknown.
    """

    label: str
    values: Mapping[str, float | None]


def measures(target: Target, scored: Sequence[Scored]) -> dict[str, float]:
    """The scores of a target; `known` is the share of labels for which the model said anything.

    Args:
        target: what is scored.
        scored: labels and outputs; those of other classes than the target's are left out.
    """
    asked = [one for one in scored if _concerns(target, one.label)]
    known = [one for one in asked if all(value is not None for value in one.values.values()) and one.values]
    out = {"known": share(len(known), len(asked)), "labels": float(len(asked))}
    if target.kind == "uar":
        said = [highest(one) for one in known]
        classes = sorted({*said, *(one.label for one in known)})
        matrix = confusion([one.label for one in known], said, classes)
        return {"uar": uar(matrix), "accuracy": share(float(np.trace(matrix)), float(matrix.sum())), **out}
    values = np.array([one.values[target.output] for one in known], float)
    if target.kind == "auc":
        return {"auc": auc(values, np.array([one.label in target.positive for one in known], bool)), **out}
    truth = np.array([float(one.label) for one in known])
    return {"ccc": ccc(truth, values), "mean_error": float(np.abs(values - truth).mean()) if known else NAN, **out}


def highest(one: Scored) -> str:
    """The class with the highest output."""
    return max(one.values, key=lambda name: one.values[name] or 0.0)


def _concerns(target: Target, label: str) -> bool:
    return target.kind != "auc" or not target.negative or label in target.positive + target.negative
