"""What a training run depends on, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass

from gpuvos.errors import check_choice, check_count, check_positive, check_share
from gpuvos.training.loss import KEEP, Keep

PRETRAINED = ("encoder", "decoder")  # children of the network that a teacher's weights are for


@dataclass(frozen=True)
class TrainingConfig:
    """What a training run depends on, besides the data and the network it starts from.

    The loss is ``pair_weight`` x Eq. 2 (with ``keep_weight`` x the term ``keep``) + ``class_weight`` x divergence from
    the teacher's classes + ``object_weight`` x cross-entropy of objectness. Without a teacher there is no divergence,
    and the background class learns from the objectness labels.
    """

    steps: int = 2000
    minutes: float | None = None  # ends earlier; the schedule then follows whichever is further along
    batch_size: int = 8  # of every process
    size: int = 256  # side of the crops
    learning_rate: float = 1e-3  # of the heads; AdamW, 3 % linear warm-up, then half a cosine to 0
    encoder_scale: float = 1.0  # times learning_rate; 0: frozen
    decoder_scale: float = 1.0
    weight_decay: float = 1e-4
    clip: float = 1.0  # norm of the gradient
    freeze_statistics: bool = False  # batch-norm buffers of encoder and decoder stay as they are
    pair_weight: float = 1.0
    keep: Keep = "spread"
    keep_weight: float = 1.0
    class_weight: float = 1.0
    object_weight: float = 1.0
    num_samples: int = 256
    balance: float = 0.5  # of object and rest in the objectness loss, see objectness_loss
    hold_unknown: bool = True  # where objectness is unknown, the teacher's is the target
    rest_weight: float = 0.0  # 0: the background is none of the objects; 1: it is one more instance
    temperature: float | None = None  # None: measured before the first step, see measure_temperature
    paste_share: float = 0.5
    seed: int = 0
    log_every: int = 20
    save_every: int = 100
    evaluate_every: int = 200
    held_out: int = 64  # stills

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "size",
            "num_samples",
            "log_every",
            "save_every",
            "evaluate_every",
            "held_out",
        ):
            check_count(name, getattr(self, name))
        for name in ("learning_rate", "clip"):
            check_positive(name, getattr(self, name))
        for name in (
            "encoder_scale",
            "decoder_scale",
            "weight_decay",
            "pair_weight",
            "keep_weight",
            "class_weight",
            "object_weight",
            "rest_weight",
        ):
            check_positive(name, getattr(self, name), zero=True)
        for name in ("balance", "paste_share"):
            check_share(name, getattr(self, name))
        for name in ("minutes", "temperature"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_choice("keep", self.keep, KEEP)


@dataclass
class TrainingState:
    """Where a run stands; all of it is in the checkpoint."""

    step: int
    seconds: float
    temperature: float
    history: list[dict[str, float]]  # rows of the log
