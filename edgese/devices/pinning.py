"""Tries whether jobs on another machine can be kept on its fast cores."""

from collections.abc import Sequence

from edgese.devices.affinity import fast_cores, mask
from edgese.devices.remote import Remote, ask
from edgese.records.device import CoreState


def pinning(
    remote: Remote, cores: Sequence[CoreState], threads: int
) -> tuple[tuple[int, ...], str]:
    """The cores that jobs can be kept on, and "", or none and why not.

    Args:
        threads: so many cores are needed.

    Raises:
        DeviceError: no connection.
    """
    fast = fast_cores(cores, threads)
    if not fast:
        return (), "the machine does not tell how fast its cores are"
    answer = ask(remote, f"taskset {mask(fast)} grep Cpus_allowed: /proc/self/status")
    words = answer.stdout.replace(",", "").split()
    if answer.code or not words:
        said = (answer.stderr or answer.stdout).strip().splitlines()
        return (), f"taskset does not work there: {said[-1] if said else 'it said nothing'}"
    if int(words[-1], 16) != int(mask(fast), 16):
        return (), f"the machine allowed cores {words[-1]} instead of {mask(fast)}"
    return fast, ""
