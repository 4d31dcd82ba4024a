"""Finding the labels of recordings: files beside them, one file for all, or the recordings' own names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from callscope.errors import BadEvaluation
from callscope.evaluation.labels import PARSERS, BadLabels, Book, Labels, from_name, renamed
from callscope.evaluation.spans import Span, merge

FROM_NAME = "name:"
_MAX_BYTES = 256 << 20


class LabelSource:
    """Where the labels come from.

    Args:
        where: a folder with a label file for each recording, one file for all, or `name:` and a regular expression.
        conditions: a CSV of `file` (or `call`) and `condition`; None for none.
        names: other words for tags.

    Raises:
        BadEvaluation: there is nothing, or a file cannot be read.
    """

    def __init__(self, where: str, conditions: Path | None = None, names: Mapping[str, str] | None = None) -> None:
        self._names = names or {}
        self._pattern = where.removeprefix(FROM_NAME) if where.startswith(FROM_NAME) else None
        self._folder: Path | None = None
        self._book = Book()
        if self._pattern is None:
            path = Path(where)
            if path.is_dir():
                self._folder = path
                if (path / "labels.csv").is_file():
                    self._book = read(path / "labels.csv")
            elif path.is_file():
                self._book = read(path)
            else:
                raise BadEvaluation(f"There are no labels at {where}: give a folder, a file, or name:REGEX.")
        self._conditions = read(conditions).by_name if conditions else {}

    def of(self, name: str, beside: Path | None = None) -> Labels | None:
        """The labels of a recording or call.

        Args:
            name: file name without its ending, or call id.
            beside: the recording's file; labels under its name are looked for in its folder too.

        Returns:
            None where there are none.

        Raises:
            BadEvaluation: its label file cannot be read.
        """
        try:
            found = self._find(name, beside)
        except BadLabels as error:
            raise BadEvaluation(f"{error}.") from error
        if found is None:
            return None
        if name in self._conditions:
            found = found + Labels(condition=self._conditions[name].condition)
        return renamed(found, self._names)

    def _find(self, name: str, beside: Path | None) -> Labels | None:
        if self._pattern is not None:
            return from_name(self._pattern, name)
        if name in self._book.by_name:
            return self._book.by_name[name]
        if self._folder is None:
            return self._book.anyone
        folders = [self._folder]
        if beside is not None and beside.is_relative_to(self._folder):
            folders.append(beside.parent)
        for folder in folders:
            for suffix in PARSERS:
                path = folder / f"{name}{suffix}"
                if path.is_file():
                    return in_book(read(path), name)
        return None


def in_book(book: Book, name: str) -> Labels | None:
    """A recording's labels in the file that bears its name: under its name, without any, or under the only one."""
    if book.anyone is not None:
        return book.anyone
    if name in book.by_name:
        return book.by_name[name]
    return next(iter(book.by_name.values())) if len(book.by_name) == 1 else Labels(())


def read(path: Path) -> Book:
    """Read a label file of any form.

    Raises:
        BadEvaluation: naming the file and what is wrong in it.
    """
    parse = PARSERS.get(path.suffix.lower())
    if parse is None:
        raise BadEvaluation(f"{path} is no label file: its name should end in {', '.join(PARSERS)}.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadEvaluation(f"{path} is larger than 256 MiB; split it.")
        return parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, BadLabels) as error:
        raise BadEvaluation(f"{path} cannot be read as labels: {error}.") from error


def read_spans(path: Path) -> tuple[Span, ...]:
    """Where anyone speaks in the recording that a label file bears the name of: in order, without overlap, seconds.

    Raises:
        BadEvaluation: the file cannot be read.
    """
    labels = in_book(read(path), path.stem)
    return merge([utterance.span for utterance in (labels.utterances or ())] if labels else [], 0.0)
