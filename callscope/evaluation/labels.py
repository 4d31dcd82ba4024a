"""Labels: where speech is, whose it is, and what else is known of a recording; docs/evaluation.md has the files."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from callscope.evaluation.spans import Span, merge

NOT_SPEECH = ("0", "nonspeech", "non-speech", "silence", "noise")
"""Labels of spans that are not about speech."""

_FILE, _SPEECH = ("file", "call"), ("label", "speech")
_KNOWN = (*_FILE, *_SPEECH, "leg", "channel", "start", "end", "speaker", "condition")


class BadLabels(ValueError):
    """A label file that cannot be read; says where and why."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """A labelled span of speech.

    Attributes:
        span: seconds.
        who: the speaker, the leg or the number of the channel (from 1), whatever the file says; may be empty.
        channel: the channel's number or the leg's name, where the file has one of its own; may be empty.
    """

    span: Span
    who: str = ""
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Tag:
    """Something else that is said of a span, or of all of a recording: a class or a number.

    Attributes:
        column: what it is about, such as "emotion".
        value: as written.
        span: seconds; None: all of it.
        leg: whose; may be empty.
    """

    column: str
    value: str
    span: Span | None = None
    leg: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of one recording.

    Attributes:
        utterances: None where the labels do not speak of speech; empty where there is none.
        tags: what else is said.
        condition: such as "office"; may be empty.
        speaker: who speaks in all of it; may be empty.
    """

    utterances: tuple[Utterance, ...] | None = None
    tags: tuple[Tag, ...] = ()
    condition: str = ""
    speaker: str = ""

    def __add__(self, other: Labels) -> Labels:
        """Both together."""
        utterances = (*(self.utterances or ()), *(other.utterances or ()))
        return Labels(
            None if self.utterances is None and other.utterances is None else utterances,
            self.tags + other.tags,
            other.condition or self.condition,
            other.speaker or self.speaker,
        )

    def legs(self, names: Sequence[str]) -> dict[str, tuple[Span, ...]] | None:
        """Where each leg speaks, in order and without overlap within a leg.

        Args:
            names: of the recording's legs.

        Returns:
            None where the labels do not speak of speech.

        Raises:
            BadLabels: there are several legs, and an utterance does not say whose it is.
        """
        if self.utterances is None:
            return None
        spans: dict[str, list[Span]] = {name: [] for name in names}
        for utterance in self.utterances:
            leg = leg_of(utterance.channel, names) or leg_of(utterance.who, names)
            if leg is None:
                named = utterance.channel or utterance.who or "no leg"
                raise BadLabels(
                    f"speech at {utterance.span[0]:g} s is labelled for {named!r}; "
                    f"the legs are {', '.join(names)}. Name the leg or the channel's number, or take the channels as "
                    "one with --mono"
                )
            spans[leg].append(utterance.span)
        return {name: merge(found, 0.0) for name, found in spans.items()}


def leg_of(said: str, names: Sequence[str]) -> str | None:
    """The leg that a label names, by its name or by its channel's number from 1. A single leg has every label."""
    if len(names) == 1:
        return names[0]
    if said in names:
        return said
    if said.isdecimal() and 1 <= int(said) <= len(names):
        return names[int(said) - 1]
    return None


@dataclass(frozen=True, slots=True)
class Book:
    """Labels by recording.

    Attributes:
        by_name: file name without its ending, or call id → its labels.
        anyone: labels of the one recording that the file lies beside; they name none.
    """

    by_name: Mapping[str, Labels] = field(default_factory=dict)
    anyone: Labels | None = None


def parse_rttm(text: str) -> Book:
    """RTTM: `SPEAKER name channel onset duration <NA> <NA> speaker …`; other types of lines are passed over."""
    found: dict[str, list[Utterance]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split()
        if not cells or cells[0] != "SPEAKER":
            continue
        try:
            start, duration = float(cells[3]), float(cells[4])
        except (IndexError, ValueError) as error:
            raise BadLabels(f"line {number} is no SPEAKER line of RTTM: {error}") from error
        speaker = cells[7] if len(cells) > 7 and cells[7] != "<NA>" else ""
        found.setdefault(cells[1], []).append(Utterance((start, start + duration), speaker, cells[2]))
    return Book({name: Labels(tuple(utterances)) for name, utterances in found.items()})


_TIMING = re.compile(r"((?:\d+:)?\d{1,2}:\d{2}[.,]\d{3})\s+-->\s+((?:\d+:)?\d{1,2}:\d{2}[.,]\d{3})")
_VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]+)>")


def parse_webvtt(text: str) -> Book:
    """WebVTT: each cue is speech, by whom its `<v name>` says; a cue without one is of nobody in particular."""
    if not text.lstrip("\ufeff").startswith("WEBVTT"):
        raise BadLabels("it does not begin with WEBVTT")
    utterances: list[Utterance] = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        timing = _TIMING.search(block)
        if timing is None or block.startswith("NOTE"):
            continue
        span = (_seconds(timing[1]), _seconds(timing[2]))
        speakers = _VOICE.findall(block[timing.end() :]) or [""]
        utterances += [Utterance(span, speaker.strip()) for speaker in dict.fromkeys(speakers)]
    return Book(anyone=Labels(tuple(utterances)))


def _seconds(stamp: str) -> float:
    seconds = 0.0
    for part in stamp.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def parse_scv(text: str) -> Book:
    """The TEN-VAD test set's: a name, then start, end, 0 or 1, over and over."""
    cells = text.split(",")[1:]
    try:
        stretches = list(zip(cells[::3], cells[1::3], cells[2::3], strict=True))
        spans = [(float(start), float(end)) for start, end, label in stretches if int(label)]
    except ValueError as error:
        raise BadLabels(f"it is not a name and then triples of start, end, 0 or 1: {error}") from error
    return Book(anyone=Labels(tuple(Utterance(span) for span in spans)))


def parse_plain(text: str) -> Book:
    """Lines of start, end and perhaps a label, in seconds; Audacity's label tracks too. Other lines are passed over."""
    utterances = []
    for line in text.splitlines():
        cells = re.split(r"[,;\s]+", line.strip())
        if len(cells) >= 2 and _is_number(cells[0]) and _is_number(cells[1]):  # else a heading, or an empty line
            if len(cells) < 3 or cells[2].lower() not in NOT_SPEECH:
                who = cells[2] if len(cells) > 2 else ""
                utterances.append(Utterance((float(cells[0]), float(cells[1])), who))
    return Book(anyone=Labels(tuple(utterances)))


def parse_csv(text: str) -> Book:
    """CSV with headings (comma, semicolon or tab), or `parse_plain` where there are none.

    Raises:
        BadLabels: a cell cannot be read; or it has rows for several recordings and rows for none.
    """
    first = text.lstrip("\ufeff").partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    headings = [cell.strip().lower() for cell in first.split(delimiter)]
    if not set(headings) & {"start", *_FILE, *_SPEECH}:
        return parse_plain(text)
    rows = csv.DictReader(text.lstrip("\ufeff").splitlines()[1:], fieldnames=headings, delimiter=delimiter)
    about_speech = bool(set(headings) & set(_SPEECH)) or ("start" in headings and set(headings) <= set(_KNOWN))
    by_name: dict[str, Labels] = {}
    anyone: Labels | None = None
    for number, row in enumerate(rows, 2):
        cells = {key: (value or "").strip() for key, value in row.items() if key and not isinstance(value, list)}
        if not any(cells.values()):
            continue
        said = _row(cells, about_speech, number)
        name = next((cells[key] for key in _FILE if cells.get(key)), "")
        if name:
            name = re.sub(r"\.(wav|flac|ogg|mp3|aiff?)$", "", name, flags=re.IGNORECASE)
            by_name[name] = by_name.get(name, Labels()) + said
        else:
            anyone = (anyone or Labels()) + said
    if by_name and anyone:
        raise BadLabels("some rows name a file or call and some do not")
    return Book(by_name, anyone if by_name else anyone or Labels(() if about_speech else None))


def _row(cells: Mapping[str, str], about_speech: bool, number: int) -> Labels:
    span = _span(cells, number)
    leg = cells.get("leg") or cells.get("channel") or ""
    speaker = cells.get("speaker", "")
    label = next((cells[key] for key in _SPEECH if key in cells), "speech")
    utterances: tuple[Utterance, ...] | None = None
    if about_speech:
        if span is None and label.lower() not in NOT_SPEECH:
            raise BadLabels(f"row {number} has no start and end")
        utterances = () if span is None or label.lower() in NOT_SPEECH else (Utterance(span, speaker, leg),)
    tags = tuple(Tag(key, value, span, leg) for key, value in cells.items() if key not in _KNOWN and value)
    return Labels(utterances, tags, cells.get("condition", ""), speaker)


def _span(cells: Mapping[str, str], number: int) -> Span | None:
    start, end = cells.get("start", ""), cells.get("end", "")
    if not start and not end:
        return None
    if not _is_number(start) or not _is_number(end) or float(end) < float(start):
        raise BadLabels(f"row {number}: start {start!r} and end {end!r} are not two rising numbers of seconds")
    return float(start), float(end)


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"\d+(\.\d*)?(e-?\d+)?", cell.lower()) is not None


def is_numeric(cell: str) -> bool:
    """Whether a tag's value is a number, with a sign perhaps."""
    return _is_number(cell.removeprefix("-"))


def from_name(pattern: str, name: str) -> Labels | None:
    """Labels that a recording's own name holds.

    Args:
        pattern: a regular expression; its named groups are columns, `speaker` and `condition` as in a CSV.
        name: the file's name without its ending.

    Returns:
        None where the name is not of that form.

    Raises:
        BadLabels: the pattern is none, or names nothing.
    """
    try:
        found = re.compile(pattern).match(name)
    except re.error as error:
        raise BadLabels(f"name:{pattern} is no regular expression: {error}") from error
    if found is None:
        return None
    groups = {key: value or "" for key, value in found.groupdict().items()}
    if not groups:
        raise BadLabels(f"name:{pattern} has no named group: (?P<emotion>.) makes a column 'emotion'")
    return _row(groups, False, 0)


def renamed(labels: Labels, names: Mapping[str, str]) -> Labels:
    """The same labels with other words for their tags."""
    return replace(labels, tags=tuple(replace(tag, value=names.get(tag.value, tag.value)) for tag in labels.tags))


PARSERS: Mapping[str, Callable[[str], Book]] = {
    ".rttm": parse_rttm,
    ".csv": parse_csv,
    ".vtt": parse_webvtt,
    ".scv": parse_scv,
    ".txt": parse_plain,
    ".lab": parse_plain,
}
"""Ending of a label file → what reads it; in this order where several lie beside a recording."""
