"""``edgese emulator setup|doctor``."""

from pathlib import Path
from typing import Annotated, Final

import typer

from edgese.errors import ConfigError, MissingDependency

app = typer.Typer(
    help="Set up and check the emulation of 64-bit ARM processors, which counts instructions and "
    "tells the kernels that a runtime chooses. Linux only.",
    epilog="Example: edgese emulator setup",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SETUP_EXAMPLE: Final = "Example: edgese emulator setup --executorch"
DOCTOR_EXAMPLE: Final = "Example: edgese emulator doctor --json"


@app.command("setup", epilog=SETUP_EXAMPLE)
def setup(
    sysroot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="An unpacked arm64 file system with Python 3.11, instead of Debian's packages.",
        ),
    ] = None,
    executorch: Annotated[
        bool,
        typer.Option(
            "--executorch", help="Also ExecuTorch with torch: 0.2 GB to fetch, 0.9 GB on disk."
        ),
    ] = False,
    bundle_only: Annotated[
        bool,
        typer.Option(
            "--bundle-only",
            help="Only ARM's Python and runtimes, which boards and phones are given too; needs "
            "neither QEMU nor a compiler.",
        ),
    ] = False,
    guest: Annotated[
        bool,
        typer.Option(
            "--guest",
            help="Also a whole machine that answers adb: 35 MB to fetch; qemu-system-arm.",
        ),
    ] = False,
    gpu_only: Annotated[
        bool,
        typer.Option(
            "--gpu-only",
            help="Only software GPUs (Vulkan), which `edgese inspect` asks TFLite's GPU delegate "
            "on: 90 MB to fetch.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fetch what emulation needs (70 MB), verify it, and build the counter of instructions.

    Python and its libraries come from Debian 12's arm64 packages, signatures checked; the
    runtimes' aarch64 wheels come from PyPI by pinned hashes. All of it lies in the user's cache
    folder; no root is needed and nothing is installed. A repeated call goes on where one stopped,
    and mends what was damaged. QEMU and a C compiler are to be installed before: sudo apt-get
    install qemu-user gcc.
    """
    from edgese.cli import ui
    from edgese.devices import guest as machine
    from edgese.devices import sysroot as making
    from edgese.devices.emulator import counter, program
    from edgese.devices.emulator.cpus import CPUS, view

    if bundle_only and guest:
        raise ConfigError(
            "--bundle-only leaves out what --guest asks for.", hint="Leave one of them out."
        )
    if gpu_only:
        if bundle_only or guest or executorch or sysroot is not None:
            raise ConfigError(
                "--gpu-only leaves out what the other options ask for.",
                hint="Set up the rest in a call of its own.",
            )
        _gpus(json=json)
        return
    qemu = None
    with ui.bars(["emulator"]) as show:
        if not bundle_only:
            # What is missing is told before anything is fetched.
            qemu = program.find_qemu()
            counter.library()
        made = making.setup(
            lambda stage, fraction: show("emulator", stage, 0.7 * fraction),
            system=sysroot,
            executorch=executorch,
        )
        if qemu is not None:
            for cpu in CPUS.values():
                show("emulator", f"start {cpu.name}", 0.75)
                view(cpu, qemu, made)
        image = ""
        if guest:
            image = str(
                machine.setup(lambda stage, fraction: show("emulator", stage, 0.8 + 0.2 * fraction))
            )
    if json:
        ui.echo_json(
            {
                "root": str(made.root),
                "digest": made.digest,
                "versions": made.versions,
                "qemu": qemu.version if qemu else "",
                "processors": list(CPUS) if qemu else [],
                "guest": image,
            }
        )
        return
    lines = [f"{made.root}: {', '.join(f'{k} {v}' for k, v in sorted(made.versions.items()))}"]
    lines += [f"QEMU {qemu.version} emulates {', '.join(CPUS)}."] if qemu is not None else []
    lines += [f"{image}: a machine that answers adb."] if image else []
    ui.echo("\n".join(lines))


def _gpus(*, json: bool) -> None:
    from edgese.cli import ui
    from edgese.devices import vulkan

    with ui.bars(["software GPUs"]) as show:
        drivers = vulkan.setup(lambda stage, fraction: show("software GPUs", stage, fraction))
    if json:
        names = [driver.name for driver in drivers]
        ui.echo_json({"root": str(vulkan.folder()), "gpus": names, "packages": vulkan.versions()})
        return
    for driver in drivers:
        ui.echo(f"{driver.name}: {driver.libraries}")


@app.command("doctor", epilog=DOCTOR_EXAMPLE)
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what emulation needs, what is missing and what is broken, and how to mend it.

    Every file is hashed, every processor is started, and a loop is counted. What is missing or
    broken ends in exit code 3; ExecuTorch, the guest and software GPUs may be missing.
    """
    from edgese.cli import ui
    from edgese.devices.emulator.diagnosis import diagnose

    with ui.bars(["doctor"]) as show:
        diagnosis = diagnose(lambda stage, fraction: show("doctor", stage, fraction))
    if json:
        ui.echo_json(diagnosis)
    else:
        ui.echo(f"sysroot: {diagnosis.sysroot}")
        ui.table(
            ("part", "status", "found", "what is wrong", "what to do"),
            [
                (part.name, part.status, part.found or "-", part.error or "-", part.remedy)
                for part in diagnosis.parts
            ],
            left=5,
        )
    wrong = [
        part
        for part in diagnosis.parts
        if part.status == "broken" or (part.status == "missing" and part.needed)
    ]
    if wrong:
        raise MissingDependency(
            f"Emulation does not work: {', '.join(f'{p.name} is {p.status}' for p in wrong)}.",
            hint="\n".join(dict.fromkeys(part.remedy for part in wrong)),
        )
