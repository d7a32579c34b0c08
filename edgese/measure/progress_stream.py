"""Hears what the runner says on its standard output; other programs' chatter is left out."""

import json
from collections.abc import Callable
from typing import Any

from edgese.protocols import Progress


def news_of(line: str) -> dict[str, Any]:
    """What a line of the runner says; empty where it is not the runner's."""
    try:
        news = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return news if isinstance(news, dict) else {}


def stages(
    progress: Progress | None, name: str = "", behind: float = 0.0, whole: float = 1.0
) -> Callable[[str], None]:
    """Passes stages on to ``progress``.

    Args:
        name: put before each stage.
        behind, whole: where the job is one of several: those before it, and all of them.
    """

    def hear(line: str) -> None:
        news = news_of(line)
        if progress is not None and "stage" in news and "fraction" in news:
            stage = f"{name}: {news['stage']}" if name else news["stage"]
            progress(stage, (behind + news["fraction"]) / whole)

    return hear
