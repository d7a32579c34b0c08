"""Tables of the page."""

from collections.abc import Sequence

from edgese.report.markup import Markup, tag


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: int = 1,
    last_words: bool = False,
) -> Markup:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        words: how many of the first columns hold words.
        last_words: the last one holds sentences.
    """
    kinds = ["words" if number < words else "number" for number in range(len(columns))]
    if last_words:
        kinds[-1] = "words sentence"
    head = tag("tr", *(tag("th", c, class_=k) for c, k in zip(columns, kinds, strict=True)))
    body = (
        tag("tr", *(tag("td", c, class_=k) for c, k in zip(row, kinds, strict=True)))
        for row in rows
    )
    return tag(
        "div",
        tag("table", tag("thead", head), tag("tbody", *body)),
        class_="scroll",
        tabindex="0",
    )
