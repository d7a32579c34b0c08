"""``edgese doctor``."""

from typing import Annotated, Final

import typer

from edgese.errors import MissingDependency

EXAMPLE: Final = "Example: edgese doctor --json"


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what is installed, what is missing (and the install command), and what is broken.

    Every package is imported in a process of its own. Missing packages are not an error: not
    everybody needs every target. A broken one ends in exit code 3.
    """
    from edgese.cli import ui
    from edgese.diagnosis import diagnose, wanted_packages

    total = sum(1 for _ in wanted_packages())
    done = 0
    with ui.bars(["doctor"]) as show:

        def checked(state: object) -> None:
            nonlocal done
            done += 1
            show("doctor", f"imported {done} of {total} packages", done / total)
            del state

        diagnosis = diagnose(checked)
    if json:
        ui.echo_json(diagnosis)
    else:
        ui.echo(f"edgese {diagnosis.edgese}, Python {diagnosis.python}")
        ui.echo(f"{diagnosis.system}, {diagnosis.cpus} CPUs, {diagnosis.memory_mb:,} MiB")
        ui.echo(f"cache: {diagnosis.cache}")
        ui.table(
            ("extra", "package", "status", "known to work", "found", "what to do"),
            [
                (
                    state.extra,
                    state.package,
                    state.status.replace("_", " "),
                    state.expected,
                    state.found or "-",
                    f"{state.error}: {state.remedy}" if state.error else state.remedy,
                )
                for state in diagnosis.packages
            ],
            left=6,
        )
        for sentence in diagnosis.notes:
            ui.echo(sentence)
    broken = [state for state in diagnosis.packages if state.status == "broken"]
    if broken:
        raise MissingDependency(
            f"Installed, but broken: {', '.join(state.package for state in broken)}.",
            hint="\n".join(state.remedy for state in broken),
        )
