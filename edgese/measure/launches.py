"""What the runner tells of a process, in the units of profiles; pure."""

from edgese.measure.job import RunLaunch
from edgese.records.measurement import Block, Launch


def launch_of(told: RunLaunch) -> Launch:
    """A launch with its times in milliseconds and its memory in MiB."""
    return Launch(
        import_ms=told.import_ns / 1e6,
        load_ms=told.load_ns / 1e6,
        first_run_ms=told.first_run_ns / 1e6,
        memory_before_load_mb=told.memory_before_load_bytes / 2**20,
        peak_memory_mb=told.peak_memory_bytes / 2**20,
        peak_since_load=told.peak_since_load,
        overhead_ns=told.overhead_ns,
        blocks=tuple(
            Block(
                start_ms=block.start_ns / 1e6,
                samples_ns=block.samples_ns,
                frequency_mhz=block.frequency_mhz,
                temperature_c=block.temperature_c,
            )
            for block in told.blocks
        ),
    )
