"""Where a run stands, on disk: enough to go on to the very same result."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgese import store
from edgese.bounds import opened
from edgese.errors import ConfigError, InputError, StoreError, stage
from edgese.records.training import TRAINING_SCHEMA, TrainingLog
from edgese.training.average import WeightAverage
from edgese.training.meter import Sums

CHECKPOINT: Final = "checkpoint.pt"

_TEXTS: Final = frozenset({"log", "sums"})
_KEYS: Final = _TEXTS | {"student", "optimizer", "average", "updates"}
_START_AGAIN: Final = "Remove it and start again."


@dataclass(frozen=True, kw_only=True)
class Learner:
    """All that a step changes."""

    student: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None


def save(folder: Path, learner: Learner, log: TrainingLog, sums: Sums) -> None:
    """Puts a checkpoint in the place of the last one, in one step.

    There are no random numbers' states in it: every step and every picture has its own, which
    follow from the seed.

    Raises:
        OutputError: the folder cannot be written, or is full; the last checkpoint is still there.
    """
    average = learner.average
    content: dict[str, Any] = {
        "schema": TRAINING_SCHEMA,
        "log": log.to_json(),
        "sums": sums.to_json(),
        "student": learner.student.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "average": None if average is None else average.tensors,
        "updates": 0 if average is None else average.updates,
    }
    # Written to memory first: torch's own writer does not tell a full disk from other troubles.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with store.staging(folder / CHECKPOINT) as (partial,):
        partial.write_bytes(buffer.getbuffer())


def read(folder: Path, wanted: TrainingLog) -> dict[str, Any]:
    """The checkpoint in a folder, which must be one of the run that is wanted.

    Args:
        wanted: the run as it would begin.

    Raises:
        ConfigError: there is none.
        InputError: it is damaged.
        StoreError: it is another run's, or another version's.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ConfigError(
            f"There is no checkpoint in {folder} to resume from.",
            hint="Leave --resume out, or give --out the folder of the run.",
        )
    with (
        opened(path, "checkpoint", hint=_START_AGAIN) as file,
        stage(f"read the checkpoint {path}", hint=_START_AGAIN),
    ):
        found: object = torch.load(file, map_location="cpu", weights_only=True)
    content: dict[str, Any] = found if isinstance(found, dict) else {}
    schema = content.get("schema")
    if not isinstance(schema, int):
        raise InputError(f"{path} is no checkpoint of edgese.", hint=_START_AGAIN)
    if schema != TRAINING_SCHEMA:
        age = "an older" if schema < TRAINING_SCHEMA else "a newer"
        raise StoreError(
            f"{path} has schema {schema}, from {age} edgese; this one reads {TRAINING_SCHEMA}.",
            hint="Go on with the edgese that wrote it, or start again.",
        )
    if not content.keys() >= _KEYS or not all(isinstance(content[key], str) for key in _TEXTS):
        raise InputError(f"{path} has not all that a checkpoint has.", hint=_START_AGAIN)
    content["log"] = TrainingLog.from_json(content["log"], path)
    content["sums"] = Sums.from_json(content["sums"], path)
    _refuse_another(folder, content["log"], wanted)
    return content


def restore(content: dict[str, Any], learner: Learner) -> None:
    """Puts a learner where `read`'s checkpoint was.

    Raises:
        InputError: it holds something else than such a learner.
    """
    with stage("go on from the checkpoint", hint=_START_AGAIN, also=(TypeError, KeyError)):
        learner.student.load_state_dict(content["student"])
        learner.optimizer.load_state_dict(content["optimizer"])
        if learner.average is not None:
            averages: dict[str, Tensor] = content["average"]
            learner.average.load(averages, content["updates"])


def _refuse_another(folder: Path, found: TrainingLog, wanted: TrainingLog) -> None:
    before, now = _settings(found), _settings(wanted)
    names = sorted({*before, *now})
    differing = [name for name in names if before.get(name) != now.get(name)]
    if differing:
        told = [f"{name} {before.get(name)}, not {now.get(name)}" for name in differing[:3]]
        raise StoreError(
            f"{folder} holds another run: {'; '.join(told)}{' ...' if len(differing) > 3 else ''}.",
            hint="Resume it with the arguments that it was started with, or give another --out.",
        )


def _settings(log: TrainingLog) -> dict[str, object]:
    recipe = {f"recipe.{key}": value for key, value in log.recipe.to_dict().items()}
    return {**recipe, "seed": log.seed, "precision": log.precision, **log.depends}
