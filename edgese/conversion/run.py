"""Converts what no cache answers: exports once, and lets workers do the rest."""

import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgese import machine
from edgese.conversion import cache, outcome
from edgese.conversion.manifest import manifest_of, publish
from edgese.conversion.plan import start_order
from edgese.conversion.pool import Ended, Limits, Pool, Waiting
from edgese.data.parity import prepared
from edgese.errors import EdgeseError, OutputError
from edgese.models.subject import Subject
from edgese.program import storage
from edgese.program.export import export_program
from edgese.quantization.integer import Integer, quantize_program, stored_program
from edgese.records.artifact import ConversionOutcome
from edgese.records.conversion import ConversionJob, Failed, ProgramRecord, TargetPlan
from edgese.scratch import temporary

Report = Callable[[str, str, float], None]

# Copies of the weights that a worker holds at once, beside what its converter takes anyway.
_WEIGHT_COPIES: Final = 6


@dataclass(frozen=True, kw_only=True)
class Order:
    """Everything that one call of `convert` decided before it began.

    Attributes:
        pictures: files to compare on; empty for the embedded ones.
        integer: how the program is quantized; None for a float one, or one that is stored.
        root: the cache folder; None where it is neither read nor written.
        program_key: of the exported program; "" where nothing identifies it.
        artifact_keys: of each target's artifact; none where nothing identifies the program.
        workers: the most at once; None for what fits.
        report: takes target, stage and share of its work done.
    """

    subject: Subject
    batch: int
    pictures: tuple[Path, ...]
    integer: Integer | None
    out: Path
    root: Path | None
    program_key: str
    artifact_keys: dict[str, str]
    workers: int | None
    report: Report


@contextmanager
def workplace(order: Order, plans: Sequence[TargetPlan]) -> Iterator[Path]:
    """A folder to work in; waits while another process converts the same program."""

    def waits() -> None:
        for plan in plans:
            order.report(plan.facts.name, "wait for another conversion of this model", 0.0)

    if order.root is None:
        with temporary("conversion") as folder:
            yield folder
    else:
        key = order.program_key or uuid.uuid4().hex
        with cache.workplace(order.root, key, waits) as folder_in_cache:
            yield folder_in_cache


def converted(
    order: Order, plans: Sequence[TargetPlan], folder: Path
) -> Generator[ConversionOutcome]:
    """Converts for each target, in the order in which they end; artifacts are published at once.

    Args:
        folder: an empty one to work in.

    Raises:
        EdgeseError: the program could not be exported, so that there is nothing to convert.
    """
    known = (
        cache.find_program(order.root, order.program_key)
        if order.root and order.program_key
        else None
    )
    program_folder = known[0] if known else folder / "program"
    limits = _limits(order.workers, len(plans))
    waiting = [_waiting(order, plan, folder, program_folder, limits) for plan in start_order(plans)]
    by_target = {plan.facts.name: plan for plan in plans}

    with Pool(
        waiting, limits, lambda target, news: order.report(target, news.stage, news.fraction)
    ) as pool:
        program = known[1] if known else _exported(order, plans, program_folder)
        for ended in pool.ended():
            plan = by_target[ended.job.target]
            row = _outcome(order, plan, program, ended)
            order.report(plan.facts.name, "failed" if row.error else "done", 1.0)
            yield row
    if order.root and order.program_key and not known:
        # What was asked for is published; a full cache only costs the next conversion its export.
        with suppress(OutputError):
            cache.keep_program(order.root, order.program_key, program_folder, program)


def _limits(workers: int | None, jobs: int) -> Limits:
    cores = machine.cores()
    at_once = max(1, min(workers or cores, jobs))
    return Limits(
        workers=at_once,
        memory_mb=machine.available_memory_mb(),
        threads=max(1, cores // at_once),
    )


def _waiting(
    order: Order, plan: TargetPlan, folder: Path, program_folder: Path, limits: Limits
) -> Waiting:
    own = folder / plan.facts.name
    (own / "artifact").mkdir(parents=True)
    copies_mb = _WEIGHT_COPIES * order.subject.weights_bytes // 2**20
    return Waiting(
        job=ConversionJob(
            target=plan.facts.name,
            card=order.subject.card,
            recipe=plan.recipe,
            options=plan.options,
            delegate=plan.delegate,
            program=str(program_folder / storage.PROGRAM),
            reference=str(program_folder / storage.REFERENCE),
            artifact=str(own / "artifact" / plan.artifact),
            threads=limits.threads,
            trained=order.subject.is_trained,
        ),
        folder=str(own),
        memory_mb=plan.facts.worker_memory_mb + copies_mb,
    )


def _exported(order: Order, plans: Sequence[TargetPlan], folder: Path) -> ProgramRecord:
    def on_stage(stage: str) -> None:
        for plan in plans:
            order.report(plan.facts.name, stage, 0.0)

    folder.mkdir()
    if order.subject.stored is not None:
        on_stage("run the stored program")
        return stored_program(
            order.subject.stored,
            pictures=prepared(order.pictures, order.subject.card.preprocessing),
            folder=folder,
        )
    on_stage("load the weights")
    network, weights = order.subject.load()
    if order.integer is not None:
        return quantize_program(
            network,
            order.subject.card,
            order.integer,
            batch=order.batch,
            pictures=prepared(order.pictures, order.subject.card.preprocessing),
            weights=weights,
            folder=folder,
            on_stage=on_stage,
        )
    return export_program(
        network,
        order.subject.card.name,
        batch=order.batch,
        pictures=prepared(order.pictures, order.subject.card.preprocessing),
        weights=weights,
        folder=folder,
        on_stage=on_stage,
    )


def _outcome(
    order: Order, plan: TargetPlan, program: ProgramRecord, ended: Ended
) -> ConversionOutcome:
    result = ended.result
    if isinstance(result, Failed):
        return outcome.failed(
            plan,
            result.message,
            result.hint,
            result.exit_code,
            seconds=ended.seconds,
            peak_memory_mb=result.peak_memory_mb,
        )
    manifest = manifest_of(order.subject, plan, program, result)
    artifact = Path(ended.job.artifact)
    try:
        if order.root and order.artifact_keys:
            key = order.artifact_keys[plan.facts.name]
            artifact = cache.keep_artifact(order.root, key, artifact, manifest)
        final = publish(artifact, manifest, order.out)
    except EdgeseError as error:
        return outcome.failed(
            plan, error.message, error.hint, error.exit_code, seconds=ended.seconds
        )
    return outcome.made(
        plan,
        "converted",
        final,
        manifest,
        seconds=ended.seconds,
        peak_memory_mb=result.peak_memory_mb,
    )
