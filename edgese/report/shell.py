"""What every page has in common: its head, its style, and sections that name their source."""

from pathlib import Path
from typing import Final

from edgese.records.measurement import Source
from edgese.report.markup import Markup, tag

STYLE: Final = Path(__file__).with_name("page.css")
# The page may use its own styles and nothing else, whatever an artifact is called.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, content: Markup) -> str:
    """A whole page, which loads nothing."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        # A style sheet is not escaped in HTML, and ours holds nothing of an artifact.
        tag("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', content), lang='en')}\n"


def section(title: str, source: Source | None, caption: str, *content: str | None) -> Markup:
    """A part of a page, with where its figures come from beside its title."""
    return tag(
        "section",
        tag(
            "header",
            tag("h2", title),
            tag("span", source, class_=f"source {source}") if source else None,
        ),
        tag("p", caption, class_="quiet") if caption else None,
        *content,
    )
