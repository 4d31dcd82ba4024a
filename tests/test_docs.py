"""The documents: every link that stays in the repository leads somewhere, heading included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from callscope.config import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("processors/models/*/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+(?:\([^()]*\)[^()\s]*)?)(?:\s+\"[^\"]*\")?\)")
VARIABLE = re.compile(r"\bCALLSCOPE_[A-Z0-9_]*[A-Z0-9]")
NOT_SETTINGS = {"CALLSCOPE_CONFIG", "CALLSCOPE_CALL_ID", "CALLSCOPE_LEG"}
"""Where the settings are, and two channel variables of Asterisk's."""
MENTION = re.compile(r"\bdocs/[\w./-]*\w\.md\b")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def headings(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    titles = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(prose(page)):
        path, _, heading = link.partition("#")
        if ":" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (heading and target.suffix == ".md" and heading not in headings(target)):
            dead.append(link)
    assert dead == []


def test_pages_that_are_named_elsewhere_exist() -> None:
    """In code, settings and messages, a page is named by its path from the root."""
    files = [*PAGES, *ROOT.glob("*.yml"), *ROOT.glob("*.toml"), *ROOT.glob("NOTICE")]
    for folder in ("callscope", "ingest", "processors", "sinks", "schemas", "bench", "tools", "tests"):
        for ending in ("py", "proto", "js", "html", "toml", "jinja"):
            files += ROOT.glob(f"{folder}/**/*.{ending}")
    named = {
        (str(file.relative_to(ROOT)), name)
        for file in files
        for name in MENTION.findall(file.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert [(file, name) for file, name in sorted(named) if not (ROOT / name).is_file()] == []


def settings_of(model: type[BaseModel], prefix: str) -> set[str]:
    """The names of all settings and sections, as the environment has them."""
    found = set()
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        found.add(variable)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= settings_of(field.annotation, variable + "__")
    return found


def test_settings_that_are_named_exist() -> None:
    known = settings_of(Settings, "CALLSCOPE_") | NOT_SETTINGS
    named = {name for page in PAGES for name in VARIABLE.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 20
    assert named <= known
