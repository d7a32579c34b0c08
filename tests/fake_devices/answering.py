"""A device that a function answers for, so that everything around devices can be tried without one.

device = FakeDevice(lambda job: Outcome(returncode=1, stderr="no space left on device"))
edgese.measure.api.profile([artifact], device=device)
"""

from collections.abc import Callable
from typing import Final

from edgese.records.measurement import DeviceInfo, Job, Outcome

INFO: Final = DeviceInfo(
    name="fake", cpu="none", architecture="none", cores=4, physical_cores=4, system="none"
)


class FakeDevice:
    """Hands every job to ``handler`` and keeps it in ``jobs``."""

    def __init__(self, handler: Callable[[Job], Outcome], info: DeviceInfo = INFO) -> None:
        self.jobs: list[Job] = []
        self._handler = handler
        self._info = info

    def check(self, target: str) -> None:
        """Takes every target."""

    def info(self) -> DeviceInfo:
        """What it was made with."""
        return self._info

    def run(self, job: Job, hear: Callable[[str], None]) -> Outcome:
        """What the handler answers; its standard output is heard line by line."""
        self.jobs.append(job)
        outcome = self._handler(job)
        for line in outcome.stdout.splitlines():
            hear(line)
        return outcome
