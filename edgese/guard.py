"""A process that outlives the one that started it, just long enough to clear up behind it.

`edgese.lifeline` starts it and says on its standard input, in messages that end in a zero byte,
which process groups run and which folders are temporary. That input ends when the starting process
does, however it ends. It needs nothing but Python's own library, since bundles bring it to devices.
"""

import os
import shutil
import signal
import time
from contextlib import suppress
from typing import Final

GROUP: Final = b"+"
FOLDER: Final = b"@"
OVER: Final = b"-"
END: Final = b"\0"
# What was killed is gone within milliseconds, unless it waits for a disk.
_PATIENCE_S: Final = 20.0


def main() -> None:
    """Wait for the end of standard input; then kill what still runs and remove what still lies."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever ends the process that is guarded may end this one too; it follows by itself.
        signal.signal(number, signal.SIG_IGN)
    known: dict[bytes, None] = {}
    rest = b""
    while data := os.read(0, 1 << 16):
        *messages, rest = (rest + data).split(END)
        for message in messages:
            if message[:1] == OVER:
                known.pop(message[1:], None)
            else:
                known[message] = None
    deadline = time.monotonic() + _PATIENCE_S
    groups = [int(one[1:]) for one in known if one[:1] == GROUP]
    folders = [os.fsdecode(one[1:]) for one in known if one[:1] == FOLDER]
    while any([_lives(group) for group in groups]) and time.monotonic() < deadline:  # noqa: C419
        time.sleep(0.01)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _lives(group: int) -> bool:
    """Kill a process group; return whether there was one."""
    # macOS refuses to signal a group whose processes have all ended.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
        return True
    return False


if __name__ == "__main__":
    main()
