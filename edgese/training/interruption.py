"""Ctrl-C that waits for the end of a step, so that nothing that was learnt is lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def postponed() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether an interruption waits; a second one is not postponed.

    Python lets only its main thread handle signals; in another one they stay as they are.
    """
    waits = False

    def note(number: int, _frame: FrameType | None) -> None:
        nonlocal waits
        if waits:
            signal.default_int_handler(number, None)
        waits = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    # `nohup` ignores the terminal's end on purpose.
    wanted = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield lambda: waits
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not installed from Python.
            signal.signal(number, handler or signal.SIG_DFL)
