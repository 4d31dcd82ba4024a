"""openSMILE's configuration of eGeMAPSv02 without the components whose output nobody reads.

eGeMAPS includes all of GeMAPS, and with it smoothers, selectors and functionals that its own replace. Each of them
costs the live engine a turn at every frame; without them it needs a tenth less. What remains is untouched, and so is
every value. The files are openSMILE's, so they are not kept here but read where its package lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from callscope.errors import FeatureEngineError

_UNREAD = frozenset(
    {
        "gemapsv01b_lldSetSelectorE",
        "gemapsv01b_lldSetSelectorF",
        "gemapsv01b_smoFnz",
        "gemapsv01b_smoE",
        "gemapsv01b_lldSetSelectorNoF0LoudnNz",
        "gemapsv01b_smoNoF0andLoudnNz",
        "gemapsv01b_logSpectralVoiced",
        "gemapsv01b_logSpectralUnvoiced",
        "gemapsv01b_lldSetSelectorSpectralNz",
        "gemapsv01b_lldSetSelectorSpectralZ",
        "gemapsv01b_smoSpectralZ",
        "gemapsv01b_smoSpectralNz",
        "gemapsv01b_functionalsMeanSpectralUV",
        "gemapsv01b_functionalsMVRVoiced",
        "lldconcat",
    }
)
"""Instances to leave out; the last one's level has a wider one in its place (egemaps.conf)."""

_INCLUDE = re.compile(r"^\s*\\\{([^\\{}]+)\}\s*$")
"""A line that includes a file."""
_OPTIONAL_INCLUDE = re.compile(r"\\\{\\cm\[(source|sink)\{")
"""Where the source and the sink come in: outside of any section."""
_INSTANCE = re.compile(r"^\s*instance\[(\w+)\]")
_SECTION = re.compile(r"^\s*\[(\w+):(\w+)\]")
_BUFFER_OPTION = r"\{\cm[bufferModeConf]}"
"""Names a file given in a section that is left out."""


def without_unread(config: Path) -> str:
    """eGeMAPSv02.conf with its includes, less the unread components.

    Args:
        config: openSMILE's folder `config`.

    Raises:
        FeatureEngineError: the files are not those this was written for.
    """
    kept: list[str] = []
    found: set[str] = set()
    skipping = False
    for line in _lines(config / "egemaps/v02/eGeMAPSv02.conf"):
        if section := _SECTION.match(line):
            skipping = section[1] in _UNREAD
        elif _OPTIONAL_INCLUDE.match(line):
            skipping = False
        instance = _INSTANCE.match(line)
        if instance and instance[1] in _UNREAD:
            found.add(instance[1])
        elif not skipping:
            kept.append(line)
    if found != _UNREAD:
        raise FeatureEngineError(
            f"openSMILE's configuration below {config} lacks {', '.join(sorted(_UNREAD - found))}: "
            "it is not the one of the pinned version. Install the package opensmile again."
        )
    text = "\n".join(kept).replace(_BUFFER_OPTION, rf"\{{{config / 'shared/BufferMode.conf.inc'}}}")
    return text.replace("{../../shared/", f"{{{config / 'shared'}/") + "\n"


def _lines(path: Path) -> Iterator[str]:
    """A file's lines, with those of the files it includes."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FeatureEngineError(f"openSMILE's configuration cannot be read ({error}).") from error
    for line in text.splitlines():
        if include := _INCLUDE.match(line):
            yield from _lines(path.parent / include[1])
        else:
            yield line
