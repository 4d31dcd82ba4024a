"""What an evaluation says, in sentences for someone who runs a call centre and not a laboratory."""

from __future__ import annotations

import math
from collections.abc import Mapping

from callscope.evaluation.comparison import Difference
from callscope.evaluation.evaluate import Evaluation, Scored
from callscope.evaluation.metrics import metric
from callscope.evaluation.scoring import Score

_LONGEST_NAME = 24
_MORE = ("vad.f1", "vad.auc", "segments.f1")


def which_is_better(name: str, difference: Difference) -> str:
    """By a score: "a" or "b"; "even" where the interval does not say; "" where neither end of it is better.

    Args:
        name: of the score.
        difference: B minus A.
    """
    kind = metric(name)
    if not kind.better or not math.isfinite(difference.value):
        return ""
    if not difference.is_clear:
        return "even"
    return "b" if difference.value * kind.better > 0 else "a"


def plain_words(evaluation: Evaluation) -> list[str]:
    """The most important things first, each a sentence."""
    if len(evaluation.scored) == 2:
        return _of_two(evaluation)
    return _of_one(evaluation.scored[0])


def _of_one(one: Scored) -> list[str]:
    out = []
    scores = one.scores
    if known := _values(scores, "vad.recall", "vad.precision"):
        recall, precision = known
        out.append(
            f"Of 100 seconds in which someone speaks, the system finds {recall * 100:.0f}; of 100 seconds that it "
            f"takes for speech, {precision * 100:.0f} are."
        )
    if known := _values(scores, "vad.onset_median_ms", "vad.offset_median_ms"):
        onset, offset = known
        out.append(
            f"It puts the start of speech {_shifted(onset)} than the labels (median), and its end {_shifted(offset)}."
        )
    if known := _values(scores, "vad.told_median_ms", "vad.told_p90_ms"):
        out.append(
            f"It says that someone speaks {known[0]:.0f} ms after they began (median); nine of ten times within "
            f"{known[1]:.0f} ms."
        )
    if known := _values(scores, "segments.recall"):
        out.append(f"Of 100 labelled utterances, {known[0] * 100:.0f} are cut out about as labelled.")
    if known := _values(scores, "turns.talk_share_error"):
        out.append(f"How much each side talks is off by {known[0] * 100:.1f} percentage points on average.")
    for facet in one.facets:
        if facet.target is None:
            continue
        output = facet.target.output
        if known := _values(scores, f"{facet.name}.auc"):
            classes = " or ".join(facet.target.positive)
            out.append(
                f"Take one example labelled {classes} and one of the others: {known[0] * 100:.1f} times in 100 the "
                f"first one has the higher {output}."
            )
        elif known := _values(scores, f"{facet.name}.uar"):
            out.append(
                f"{output} names the right class {known[0] * 100:.0f} times in 100, every class counting the same."
            )
        elif known := _values(scores, f"{facet.name}.ccc"):
            out.append(
                f"{output} agrees with the labelled values by {known[0]:.2f}, where 1 is perfect and 0 is chance."
            )
        if (known := _values(scores, f"{facet.name}.known")) and known[0] < 0.995:
            out.append(
                f"For {(1 - known[0]) * 100:.0f} of 100 labels {output} says nothing, with a reason in the results."
            )
    return out


def _shifted(ms: float) -> str:
    return f"{abs(ms):.0f} ms {'later' if ms > 0 else 'earlier'}"


def called(evaluation: Evaluation) -> tuple[str, str]:
    """The two sides' names, or their letters where a name is too long for a sentence."""
    a, b = (one.side.name for one in evaluation.scored)
    return (a, b) if max(len(a), len(b)) <= _LONGEST_NAME and a != b else ("A", "B")


def _of_two(evaluation: Evaluation) -> list[str]:
    a, b = evaluation.scored
    name_a, name_b = called(evaluation)
    out = []
    for name, words in (
        ("vad.recall", "Of 100 seconds in which someone speaks, {a} finds {before:.0f}, {b} {after:.0f}"),
        ("vad.precision", "Of 100 seconds that {a} takes for speech, {before:.0f} are; with {b} {after:.0f}"),
        (
            "vad.told_median_ms",
            "From a start of speech until {a} tells of it: {before:.0f} ms; {b}: {after:.0f} ms (median)",
        ),
    ):
        difference = evaluation.differences.get(name)
        if difference is not None and math.isfinite(difference.value):
            by = 100 if metric(name).unit == "share" else 1
            before, after = a.scores[name].value * by, b.scores[name].value * by
            said = words.format(a=name_a, b=name_b, before=before, after=after)
            out.append(f"{said}: {_verdict(evaluation, name, difference)}.")
    more = [*_MORE, *(name for name in evaluation.differences if name.endswith((".auc", ".uar", ".ccc")))]
    for name in dict.fromkeys(more):
        difference = evaluation.differences.get(name)
        if difference is None or not math.isfinite(difference.value):
            continue
        kind = metric(name)
        of = {"vad": "of voice activity", "segments": "of segments"}.get(name.split(".")[0], f"of {name.split('.')[1]}")
        of_a, of_b = kind.shown(a.scores[name].value), kind.shown(b.scores[name].value)
        said = f"{kind.title} {of}: {of_a} with {name_a}, {of_b} with {name_b}"
        out.append(f"{said}: {_verdict(evaluation, name, difference)}{_range(name, difference)}.")
    lengths = {"A": 0.0, "B": 0.0, "": 0.0}
    for flip in evaluation.flips:
        lengths[flip.right] += flip.span[1] - flip.span[0]
    if evaluation.flips:
        out.append(
            f"They disagree on {sum(lengths.values()):.1f} s of {evaluation.seconds:.0f} s, in {len(evaluation.flips)} "
            f"stretches. By the labels {name_a} is right in {lengths['A']:.1f} s of it, {name_b} in "
            f"{lengths['B']:.1f} s."
        )
    elif not evaluation.shifts:
        out.append("They say the very same of these calls.")
    return out


def _verdict(evaluation: Evaluation, name: str, difference: Difference) -> str:
    if difference.value == difference.interval.low == difference.interval.high == 0:
        return "no difference"
    names = dict(zip("ab", called(evaluation), strict=True))
    better = which_is_better(name, difference)
    return f"{names[better]} is better" if better in names else "no clear difference, it may be chance"


def _range(name: str, difference: Difference) -> str:
    if not math.isfinite(difference.interval.low):
        return ""
    kind = metric(name)
    low, high = (kind.shown(end, difference=True) for end in (difference.interval.low, difference.interval.high))
    return f" ({kind.shown(difference.value, difference=True)}; 95 % interval {low} to {high})"


def _values(scores: Mapping[str, Score], *names: str) -> list[float]:
    """The values of all of them, or nothing if one has none."""
    found = [scores[name].value for name in names if name in scores and math.isfinite(scores[name].value)]
    return found if len(found) == len(names) else []
