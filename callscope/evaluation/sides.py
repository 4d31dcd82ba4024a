"""What is to be scored: settings under which calls are run, or the results that an export holds."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callscope.config import Settings, load
from callscope.errors import BadEvaluation
from callscope.evaluation import exported, utterances
from callscope.evaluation.in_process import Analysis
from callscope.evaluation.judgement import Judgement, Run
from callscope.evaluation.recordings import Call, files_of, read_call
from callscope.exchange.folder import is_export, read
from callscope.streams import StreamId

CONFIGURED = "configured"
Progress = Callable[[int, int], None]
"""Told calls done, and calls to do."""


@dataclass(frozen=True)
class Side:
    """One of the things that are compared.

    Attributes:
        name: how it is called in the report.
        settings: under which the calls are run; None: `results` are taken as they are.
        results: an export.
    """

    name: str
    settings: Settings | None = None
    results: Path | None = None


def side_of(text: str, common: Sequence[str]) -> Side:
    """A side as the command line has it.

    Args:
        text: a TOML file, an export's folder, settings (`processors.detect.detector=webrtc`, several with `;` between
            them), or "configured".
        common: settings of both sides, in the same form.

    Raises:
        BadEvaluation: it is none of these.
        ConfigError: a setting is wrong.
    """
    path = Path(text)
    if path.is_dir():
        if not is_export(path):
            raise BadEvaluation(f"{path} is a folder but no export; name a TOML file, settings or an export.")
        return Side(path.name, results=path)
    overrides: dict[str, Any] = {}
    if path.suffix == ".toml":
        try:
            overrides = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadEvaluation(f"{path} cannot be read as settings: {error}.") from error
        name = path.stem
    elif text == CONFIGURED:
        name = "as set" if common else "as configured"
    else:
        for assignment in text.split(";"):
            _assign(overrides, assignment)
        parts = [part.strip().rpartition(".")[2] for part in text.split(";")]
        value = parts[0].partition("=")[2].strip(" \"'")
        name = value if len(parts) == 1 and value.isidentifier() else ", ".join(parts)  # `silero` says enough
    for assignment in common:
        _assign(overrides, assignment)
    return Side(name, load(**overrides))


def _assign(overrides: dict[str, Any], assignment: str) -> None:
    """Put `section.name=value` into nested settings; a value is as in TOML, or else taken as text."""
    key, sign, value = assignment.partition("=")
    if not sign or not key.strip():
        raise BadEvaluation(
            f"{assignment!r} is neither a TOML file nor an export here, nor a setting such as "
            "processors.detect.detector=webrtc."
        )
    *sections, name = key.strip().split(".")
    at = overrides
    for section in sections:
        at = at.setdefault(section, {})
        if not isinstance(at, dict):
            raise BadEvaluation(f"{assignment!r}: {section} is a setting, not a section.")
    try:
        at[name] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        at[name] = value.strip()


@dataclass(frozen=True)
class Calls:
    """The calls that are scored: audio files, or an export.

    Attributes:
        where: a file, a folder of files, or an export.
        legs: names of a file's channels.
        mono: take all channels of a file as one.
    """

    where: Path
    legs: tuple[str, ...]
    mono: bool

    @property
    def is_export(self) -> bool:
        """Whether it is an export."""
        return self.where.is_dir() and is_export(self.where)

    def names(self) -> dict[str, Path | None]:
        """Every call, and its file if it has one of its own."""
        if self.is_export:
            return dict.fromkeys(read(self.where).calls)
        return {path.stem: path for path in files_of(self.where)}

    def each(self, wanted: Mapping[str, object]) -> Iterator[Call]:
        """Those of the calls, one after the other."""
        if self.is_export:
            yield from (call for call in exported.read_calls(self.where) if call.name in wanted)
            return
        for path in files_of(self.where):
            if path.stem in wanted:
                yield read_call(path, self.legs, self.mono)

    def one(self, name: str) -> Call:
        """One call with its audio."""
        if self.is_export:
            return exported.read_audio(self.where, name)
        path = self.names()[name]
        assert path is not None, "only an export has calls without files"
        return read_call(path, self.legs, self.mono)


def run(side: Side, calls: Calls, wanted: Mapping[str, object], progress: Progress, *, models: bool) -> Run:
    """What a side says of the calls.

    Args:
        side: whose results.
        calls: where the calls are.
        wanted: the names of those that count.
        progress: told how far it is.
        models: whether models are run, and not only speech is found.

    Raises:
        CallscopeError: a file, a model or an export cannot be used.
    """
    if side.results is not None:
        return {
            stream: judged for stream, judged in exported.read_run(side.results).items() if stream.call_id in wanted
        }
    assert side.settings is not None, "a side has one or the other"
    analysis = Analysis(side.settings, models=models)
    out: dict[StreamId, Judgement] = {}
    for done, call in enumerate(calls.each(wanted), 1):
        out |= analysis.run(call)
        progress(done, len(wanted))
    return out


def run_utterances(side: Side, described: Sequence[utterances.Utterance]) -> Run:
    """What a side's models say of recordings of one utterance each."""
    if side.settings is None:
        raise BadEvaluation("--utterances runs models on files; results of an export have been made otherwise.")
    return utterances.judge(described, side.settings)
