"""How a network is trained, and what a training leaves."""

from typing import Annotated, Literal

import msgspec

from edgese.records.artifact import WeightsInfo
from edgese.records.base import Record
from edgese.records.bounds import Count, Fraction, OpenShare, Positive, Seconds, Share, Side
from edgese.records.data import PicturesInfo
from edgese.records.evaluation import Proportion
from edgese.records.model import ModelSpec

TRAINING_SCHEMA = 1

# TOML knows infinity; nothing here may be.
Above = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
# Magnitude 10 is the largest of the RandAugment paper; EfficientNetV2-L goes to 25.
Magnitude = Annotated[float, msgspec.Meta(ge=0, le=30)]


class Sgd(Record, frozen=True, tag="sgd", tag_field="kind"):
    """Stochastic gradient descent with momentum.

    Attributes:
        lr: learning rate at the recipe's batch.
        nesterov: looks ahead along the momentum.
        weight_decay: of weights; norms and biases have none.

    Raises:
        ValueError: Nesterov's momentum without a momentum.
    """

    lr: Above
    momentum: Fraction = 0.9
    nesterov: bool = True
    weight_decay: NotNegative = 0.0

    def __post_init__(self) -> None:
        """Refuses what would be read and have no effect."""
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov` needs a `momentum`.")


class RmsProp(Record, frozen=True, tag="rmsprop", tag_field="kind"):
    """RMSProp as TensorFlow has it: ``eps`` inside the root, squares that start at one.

    Attributes:
        lr: learning rate at the recipe's batch.
        decay: of the mean of squared gradients.
        weight_decay: of weights; norms and biases have none.
    """

    lr: Above
    decay: Fraction = 0.9
    momentum: Fraction = 0.9
    eps: Above = 1e-3
    weight_decay: NotNegative = 0.0


class AdamW(Record, frozen=True, tag="adamw", tag_field="kind"):
    """Adam with decoupled weight decay (arXiv:1711.05101).

    Attributes:
        lr: learning rate at the recipe's batch.
        weight_decay: of weights; norms and biases have none.
    """

    lr: Above
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Above = 1e-8
    weight_decay: NotNegative = 0.0


Optimizer = Sgd | RmsProp | AdamW


class Cosine(Record, frozen=True, tag="cosine", tag_field="kind"):
    """Half a cosine from the full learning rate down (arXiv:1608.03983, without restarts).

    Attributes:
        warmup: share of the run in which the learning rate first rises from 0, linearly.
        floor: where it ends, as a share of the full one.
    """

    warmup: Fraction = 0.0
    floor: Share = 0.0


class Steps(Record, frozen=True, tag="steps", tag_field="kind"):
    """A learning rate that falls at given moments.

    Attributes:
        at: the moments, as shares of the run, in order.
        factor: by which it falls at each.
        warmup: as in `Cosine`.

    Raises:
        ValueError: moments that are not in order.
    """

    at: Annotated[tuple[OpenShare, ...], msgspec.Meta(min_length=1)]
    factor: OpenShare = 0.1
    warmup: Fraction = 0.0

    def __post_init__(self) -> None:
        """Refuses what reads otherwise than it acts."""
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"The moments `at` are {list(self.at)}; they must rise.")


class Exponential(Record, frozen=True, tag="exponential", tag_field="kind"):
    """A learning rate that falls by the same factor at equal distances.

    Attributes:
        every: the distance, as a share of the run.
        factor: by which it falls each time.
        warmup: as in `Cosine`; the distances count from the run's start.
    """

    every: OpenShare
    factor: OpenShare
    warmup: Fraction = 0.0


Schedule = Cosine | Steps | Exponential


class ResizedCrop(Record, frozen=True, tag="resized", tag_field="kind"):
    """A rectangle of random area and aspect, resized to the input (arXiv:1409.4842, section 6).

    Attributes:
        area: smallest and largest share of the picture's area.
        aspect: narrowest and widest ratio of width to height.

    Raises:
        ValueError: a range that is none.
    """

    area: tuple[OpenShare, OpenShare] = (0.08, 1.0)
    aspect: tuple[Above, Above] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        """Refuses ranges that hold nothing."""
        if self.area[0] > self.area[1] or self.aspect[0] > self.aspect[1]:
            raise ValueError("`area` and `aspect` go from the smallest to the largest.")


class PadCrop(Record, frozen=True, tag="padded", tag_field="kind"):
    """The picture as it is evaluated, moved at random; the rim has the mean colour.

    Attributes:
        padding: largest movement to each side, in pixels.
    """

    padding: Positive = 4


class CenterCrop(Record, frozen=True, tag="center", tag_field="kind"):
    """The picture as it is evaluated."""


Crop = ResizedCrop | PadCrop | CenterCrop


class Augmentation(Record, frozen=True):
    """How pictures are varied.

    Attributes:
        flip: mirrors every other picture, by chance.
        colour: brightness, contrast and saturation vary by up to this share.
        randaugment: magnitude of two random operations a picture (arXiv:1909.13719); 0 is none.
    """

    crop: Crop = ResizedCrop()
    flip: bool = True
    colour: Fraction = 0.0
    randaugment: Magnitude = 0.0


class Average(Record, frozen=True):
    """An exponential moving average of the weights, which takes their place in the end.

    Attributes:
        decay: of the average. Early on it is (1 + n) / (10 + n) after n steps, where that is less,
            or the first weights would stay in it for long.
    """

    decay: Fraction = 0.9999


class Distillation(Record, frozen=True):
    """Learning from what a teacher says of each picture (arXiv:1503.02531).

    Attributes:
        temperature: that divides both networks' logits.
        weight: of the teacher against the labels; with 1 no labels are needed.
        features: of what both compute inside, beside their answers: squared error over square,
            summed over residual sums and the last pool. In quantization-aware training, where both
            are one network; elsewhere the answers alone are followed.
    """

    temperature: Above = 1.0
    weight: OpenShare = 1.0
    features: NotNegative = 0.0


class Progressive(Record, frozen=True):
    """Resolution and regularization that grow together (arXiv:2104.00298, section 4 and table 6).

    Each pair goes from the first stage's value to the last one's in equal steps, and takes the
    place of the value that the recipe has of that kind.

    Attributes:
        stages: how many equal parts the run has.
        resolution: shares of the network's own resolution.
    """

    stages: Annotated[int, msgspec.Meta(ge=2)]
    resolution: tuple[OpenShare, OpenShare]
    randaugment: tuple[Magnitude, Magnitude] | None = None
    mixup: tuple[NotNegative, NotNegative] | None = None
    dropout: tuple[Fraction, Fraction] | None = None


class TrainingRecipe(Record, frozen=True):
    """How a network is trained; a file in calibration/training.

    Moments are shares of the run, so that another number of epochs keeps its shape.

    Attributes:
        name: as in ``--recipe``.
        summary: one sentence for lists.
        sources: where the values come from.
        epochs, steps: length of the run, in one of the two.
        batch: pictures in a step, over all processes.
        precision: "auto" is bf16 where a GPU computes in it, and fp32 elsewhere.
        label_smoothing: share of each label that is spread over all classes.
        mixup: alpha of the Beta distribution that pictures are mixed by (arXiv:1710.09412).
        dropout: before the classifier; None leaves the network's own.
        stochastic_depth: of the last block, falling linearly to the first; None leaves the
            network's own.
        norm_learns: share of the run after which BatchNorm's running statistics are used and no
            longer changed: 1 never, 0 from the start.
        clip: largest norm of all gradients together; None does not clip.

    Raises:
        ValueError: settings that contradict each other, or that would have no effect.
    """

    name: str
    summary: str
    sources: tuple[str, ...]
    batch: Positive
    optimizer: Optimizer
    schedule: Schedule
    augmentation: Augmentation
    epochs: Above | None = None
    steps: Positive | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    label_smoothing: Fraction = 0.0
    mixup: NotNegative = 0.0
    dropout: Fraction | None = None
    stochastic_depth: Fraction | None = None
    norm_learns: Share = 1.0
    average: Average | None = None
    distillation: Distillation | None = None
    clip: Above | None = None
    progressive: Progressive | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be, and what would be read and have no effect."""
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("A recipe has either `epochs` or `steps`.")
        growing = self.progressive or Progressive(stages=2, resolution=(1, 1))
        twice = {
            "augmentation.randaugment": self.augmentation.randaugment and growing.randaugment,
            "mixup": self.mixup and growing.mixup,
            "dropout": self.dropout is not None and growing.dropout,
        }
        if names := [name for name, given in twice.items() if given]:
            raise ValueError(f"`{names[0]}` stands in the recipe and under `progressive`.")
        unlabelled = self.distillation is not None and self.distillation.weight == 1
        if unlabelled and self.label_smoothing:
            raise ValueError("`label_smoothing` has no effect where the teacher alone is followed.")


class Advance(Record, frozen=True):
    """How far a training is.

    Attributes:
        epoch: the current one, from 1, of ``epochs``.
        step: how many are behind, of ``steps``.
        loss: mean over this epoch so far.
        images_per_s: pictures a second, over all processes, in this epoch.
        seconds_left: to the end of the run at this pace.
    """

    epoch: Count
    epochs: Count
    step: Count
    steps: Count
    loss: float
    images_per_s: float
    seconds_left: Seconds


class EpochRow(Record, frozen=True):
    """One epoch of a training.

    Attributes:
        epoch: from 1; the last one may be cut short.
        step: steps that are behind at its end.
        height, width: of the training pictures, in pixels.
        lr: of its last step.
        train_loss: mean over its steps, with all that the recipe does to pictures and labels.
        train_top1: share of its training pictures whose likeliest class was the true one at their
            step; None without labels.
        val_loss: cross-entropy on the validation pictures; without labels, the KL divergence from
            the teacher, in nats.
        val_top1: share of the validation pictures that are classified rightly; None without labels.
        val_agreement: share on which the likeliest class is the teacher's; None without a teacher.
        images_per_s: training pictures a second, over all processes.
        seconds: training and validation together.
    """

    epoch: Positive
    step: Count
    height: Side
    width: Side
    lr: NotNegative
    train_loss: float
    train_top1: Share | None
    val_loss: float | None
    val_top1: Share | None
    val_agreement: Share | None
    images_per_s: NotNegative
    seconds: Seconds


class Answers(Record, frozen=True):
    """What a network answered on the validation images.

    Attributes:
        classes: outputs of the network.
        images: how many there are.
        right: how many were given their own class; without labels, the teacher's.
        given: how many different classes were answered.
        expected: how many different classes the images have; without labels, the teacher gives.
        majority: images of the class that most of them have.
    """

    classes: Positive
    images: Positive
    right: Count
    given: Count
    expected: Count
    majority: Count


class TrainingLog(Record, frozen=True):
    """What a training has done so far; log.json in its folder.

    Attributes:
        depends: what the result depends on beside recipe and seed, by name: a resumed run must
            agree with it.
        device: as torch calls it.
        precision: that was computed in.
        processes: that computed together.
        step: how many steps are behind, of ``steps``.
        val: how many of the validation pictures were classified rightly after the last epoch; None
            without labels or before the first epoch's end.
        answers: after the last epoch; None without validation images.
        collapse: why the weights must not be used: the loss diverged or did not fall, or what the
            network answers is no better than chance; "" where nothing shows that, and before the
            end. See `edgese.training.verdict`.
    """

    recipe: TrainingRecipe
    seed: int
    depends: dict[str, str]
    device: str
    precision: Literal["fp32", "bf16"]
    processes: Positive
    step: Count
    steps: Positive
    epochs: tuple[EpochRow, ...]
    val: Proportion | None = None
    answers: Answers | None = None
    collapse: str = ""
    schema: int = TRAINING_SCHEMA


class TrainingResult(Record, frozen=True):
    """What ``edgese train`` leaves.

    Attributes:
        start: the weights that the run began with.
        classifier: "kept" from those weights, or "new" where they had none that fits.
        teacher: the weights of the network that was distilled.
        weights: the file with the final weights; the averaged ones where the recipe averages.
        sha256: of that file.
        files: what else stands in the folder.
        seconds: of all epochs together.
        created: UTC, ISO 8601.
        seal: see `edgese.seals`.
    """

    model: ModelSpec
    log: TrainingLog
    start: WeightsInfo
    classifier: Literal["kept", "new"]
    teacher: WeightsInfo | None
    train: PicturesInfo
    val: PicturesInfo | None
    weights: str
    sha256: str
    files: tuple[str, ...]
    seconds: Seconds
    versions: dict[str, str]
    edgese: str
    created: str
    seal: str = ""
    schema: int = TRAINING_SCHEMA

    @property
    def collapse(self) -> str:
        """Why the weights must not be used; "" where nothing shows that. See `TrainingLog`."""
        return self.log.collapse
