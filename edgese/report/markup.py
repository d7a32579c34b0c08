"""HTML and SVG from values: what is not markup already is escaped."""

from html import escape
from typing import Final

# SVG's elements that end themselves, and HTML's that have no content.
_EMPTY: Final = {"path", "line", "rect", "polyline", "polygon", "meta", "br"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *content: str | None, **attributes: str | float | None) -> Markup:
    """An element.

    Args:
        content: plain strings are escaped; None is left out.
        attributes: by their names with "_" for "-"; a final "_" is dropped ("class_"), None is
            left out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Markup(f"<{name}{told}/>")
    return Markup(f"<{name}{told}>{joined(*content)}</{name}>")


def joined(*content: str | None) -> Markup:
    """One piece of markup after the other."""
    return Markup(
        "".join(
            part if isinstance(part, Markup) else escape(part)
            for part in content
            if part is not None
        )
    )


def _text(value: str | float) -> str:
    # Coordinates need no more digits than a screen has pixels.
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
