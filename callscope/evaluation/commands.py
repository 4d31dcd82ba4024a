"""`callscope eval`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from callscope import logs
from callscope.config import load
from callscope.errors import BadEvaluation

if TYPE_CHECKING:
    from callscope.evaluation.evaluate import Evaluation, Tell
    from callscope.evaluation.sides import Side

console = Console(highlight=False, soft_wrap=True)
_SHOWN = ("auc", "f1", "precision", "recall", "onset_median_ms", "offset_median_ms", "told_median_ms", "ccc", "uar",
          "talk_share_error", "known")  # fmt: skip


@contextmanager
def _progress() -> Iterator[Tell]:
    shown = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    out = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise BadEvaluation(f"{option} {text}: give it as NAME=VALUE.")
        out[name] = value
    return out


@click.command("eval")
@click.option("--ab", nargs=2, metavar="A B", help="Compare two: each a TOML file, settings "
              "(processors.detect.detector=webrtc, several with ; between), an export, or “configured”.")  # fmt: skip
@click.option("--set", "common", multiple=True, metavar="NAME=VALUE", help="A setting for this evaluation.")
@click.option("--score", "scores", multiple=True, metavar="OUTPUT=COLUMN[:HIGH,…[/LOW,…]]",
              help="Which output belongs to which column of the labels, and which labels should be high.")  # fmt: skip
@click.option("--utterances", is_flag=True, help="Each file is one utterance; only models are scored.")
@click.option("--baseline", metavar="COLUMN=LABEL", help="With --utterances: which show a speaker's usual voice.")
@click.option("--rename", multiple=True, metavar="LABEL=WORD", help="Another word for a label.")
@click.option("--conditions", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="A CSV of file (or call) and condition.")  # fmt: skip
@click.option("--legs", default="customer,agent", show_default=True, help="Names of the channels, left first.")
@click.option("--mono", is_flag=True, help="Take all channels of a file as one leg.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the probability.")
@click.option("--resamples", type=click.IntRange(100, 100_000), default=1_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--examples", type=click.IntRange(0, 99), default=8, show_default=True, help="How many to listen to.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("callscope-eval"),
              show_default=True, help="Where eval.html, eval.json and the examples go.")  # fmt: skip
@click.option("--fail-under", "least", multiple=True, metavar="METRIC=VALUE", help="End with 1 if it is under that.")
@click.option("--fail-over", "most", multiple=True, metavar="METRIC=VALUE", help="End with 1 if it is over that.")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("labels")
def eval_command(
    ab: tuple[str, str] | None,
    common: tuple[str, ...],
    scores: tuple[str, ...],
    utterances: bool,
    baseline: str | None,
    rename: tuple[str, ...],
    conditions: Path | None,
    legs: str,
    mono: bool,
    threshold: float,
    resamples: int,
    seed: int,
    examples: int,
    out: Path,
    least: tuple[str, ...],
    most: tuple[str, ...],
    run: Path,
    labels: str,
) -> None:
    """Score a RUN against LABELS, or compare two over the same calls.

    RUN is a folder of audio files (or one), which go through the pipeline here, without Kafka; or a folder that
    `callscope export` wrote, whose results are scored. With --set or --ab its audio is run again.

    LABELS is a folder of .rttm, .csv, .vtt, .txt, .lab or .scv files named like the audio, one .csv or .rttm for all,
    or name:REGEX, whose named groups read the labels from the files' names. docs/evaluation.md has all of it.
    """
    from callscope.evaluation import evaluate, gate, report
    from callscope.evaluation import examples as hearing
    from callscope.evaluation.label_files import LabelSource
    from callscope.evaluation.scoring import Scoring
    from callscope.evaluation.sides import Calls

    logs.configure_logging("warning")
    bounds = [gate.parse_bound(text, is_least=True) for text in least]
    bounds += [gate.parse_bound(text, is_least=False) for text in most]
    calls = Calls(run, tuple(name.strip() for name in legs.split(",")), mono)
    sides = _sides(calls, ab, common)
    pause_s = load().processors.detect.max_pause_ms / 1_000  # the same for both sides
    request = evaluate.Request(
        calls,
        LabelSource(labels, conditions, _pairs(rename, "--rename")),
        sides,
        Scoring(threshold, pause_s, resamples, seed),
        scores,
        utterances,
        next(iter(_pairs([baseline], "--baseline").items())) if baseline else None,
        common,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _progress() as tell:
            found = evaluate.evaluate(request, tell)
            chosen = hearing.worth_hearing(found, 0 if utterances else examples)
            cut = hearing.cut(chosen, calls, out)
        (out / "eval.json").write_text(report.as_json(found), "utf-8")
        (out / "eval.html").write_text(report.as_html(found, cut), "utf-8")
    except OSError as error:
        raise BadEvaluation(f"{out} cannot be written: {error}.") from error
    _show(found)
    console.print(f"{out / 'eval.html'} is the report, {out / 'eval.json'} the same for machines")
    failed = gate.failures(bounds, report.gate_scores(found))
    for line in failed:
        click.echo(f"callscope eval: {line}", err=True)
    if failed:
        sys.exit(1)


def _sides(calls: object, ab: tuple[str, str] | None, common: tuple[str, ...]) -> list[Side]:
    from callscope.evaluation.sides import CONFIGURED, Calls, Side, side_of

    assert isinstance(calls, Calls)
    if ab:
        return [side_of(text, common) for text in ab]
    if calls.is_export and not common:
        return [Side(calls.where.name, results=calls.where)]
    return [side_of(CONFIGURED, common)]


def _show(found: Evaluation) -> None:
    """The most asked-for scores on the terminal."""
    from callscope.evaluation.metrics import metric
    from callscope.evaluation.wording import called, plain_words, which_is_better

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("score")
    for one in found.scored:
        table.add_column(one.side.name, justify="right")
    if found.differences:
        table.add_column("B − A (95 % interval)", justify="right")
        table.add_column("")
    for name, score in found.scored[0].scores.items():
        bare, _, condition = name.partition("@")
        if bare.rpartition(".")[2] not in _SHOWN or (condition and not bare.endswith((".f1", ".auc"))):
            continue
        kind = metric(name)
        cells = [kind.shown(one.scores[name].value) if name in one.scores else "" for one in found.scored]
        if all(cell in ("–", "") for cell in cells):
            continue
        if found.differences:
            difference = found.differences.get(name)
            if difference is not None:
                ends = (difference.value, difference.interval.low, difference.interval.high)
                value, low, high = (kind.shown(end, difference=True) for end in ends)
                better = dict(zip("ab", called(found), strict=True)).get(which_is_better(name, difference))
                cells += [f"{value} ({low} to {high})", f"{better} better" if better else ""]
        elif score.interval.low == score.interval.low:
            cells[0] += f"  ({kind.shown(score.interval.low)} to {kind.shown(score.interval.high)})"
        table.add_row(name, *cells)
    Console(highlight=False, width=max(120, console.width)).print(table)
    for sentence in plain_words(found):
        console.print(f"· {sentence}", markup=False)
