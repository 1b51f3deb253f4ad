"""The four sizes at which the book runs: smoke, cpu, gpu, paper.

A profile is one frozen record. Every value that the paper leaves out stands here, once, with what was chosen and the
source; `open_questions` makes the book's table "What the paper leaves open" from it. Nothing else in the package has a
number of its own for training, but for the fixed part of the Context Encoder's recipe, which is its authors'.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from cascade_core.conventions import FILLS

Check = tuple[str, Callable[[Any], bool]]
COUNT: Check = ("a whole number of at least 1", lambda v: v >= 1)
SIDE: Check = ("a multiple of 32: networks halve an image five times", lambda v: v >= 32 and v % 32 == 0)
POSITIVE: Check = ("above 0", lambda v: v > 0)
WEIGHT: Check = ("0 or above", lambda v: v >= 0)
WIDTHS: Check = ("five whole numbers of at least 1", lambda v: len(v) == 5 and min(v) >= 1)
SHARE: Check = ("two shares, 0 <= low <= high <= 1", lambda v: len(v) == 2 and 0 <= v[0] <= v[1] <= 1)
COLOR: Check = ("three values in [0, 1]", lambda v: len(v) == 3 and all(0 <= c <= 1 for c in v))
MIX: Check = (
    "shares that add up to 1, by the names none, low, medium, high",
    lambda v: set(v) <= {"none", "low", "medium", "high"} and min(v.values()) >= 0 and abs(sum(v.values()) - 1) < 1e-6,
)


def one_of(*names: str) -> Check:
    return "one of " + ", ".join(names), lambda v: v in names


def setting(stages: tuple[int | str, ...], check: Check, question: str = "", source: str = "", default: Any = None):
    """A field of a profile: the stages whose outcome it decides, what is valid, the paper's silence that it fills."""
    metadata = {"stages": stages, "check": check, "question": question, "source": source}
    if default is None:
        return field(metadata=metadata)
    return field(default_factory=lambda: default, metadata=metadata)


CE = "context_encoder"  # the baseline that is trained
ALL, INPAINT = (1, 2, 3, 4, CE), (1, 2, 4, CE)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """All that a run is made of, but for the photos and the seed. Lengths are in pixels, rates per optimizer step."""

    name: str
    about: str

    # photos
    size: int = setting(INPAINT, SIDE)
    scale: tuple[float, float] = setting(
        ALL,
        SHARE,
        "how training crops are cut",
        "at random, from one pixel of the photo per pixel (0) to the whole short side (1); the tables test both ends",
        (0.0, 1.0),
    )
    hole: int = setting(
        INPAINT,
        COUNT,
        "the hole's size",
        "Context Encoders cut 64 of 128 px and keep a rim of 4 px visible; this reading fits the paper's Table 1 best",
    )
    hole_place: str = setting((1, 2, 4), one_of("center", "anywhere"), default="center")  # the paper's center
    hole_color: tuple[float, float, float] = setting(
        INPAINT,
        COLOR,
        "the color in the hole",
        "Context Encoders' train.lua: 117, 104, 123 of 255",
        (117 / 255, 104 / 255, 123 / 255),
    )

    # networks
    generator_widths: tuple[int, ...] = setting(
        INPAINT,
        WIDTHS,
        "channels, kernel and stride of the generator",
        "Context Encoders: 64-64-128-256-512, kernel 4, stride 2; narrower in the smaller profiles",
        (64, 64, 128, 256, 512),
    )
    generator_blocks: int = setting((1, 2, 4), COUNT, default=7)  # the paper's seven
    generator_fill: str = setting((1, 2, 4), one_of(*FILLS), default="color")  # the paper's constant color
    critic_widths: tuple[int, ...] = setting((2,), WIDTHS, default=(64, 128, 256, 512, 512))  # the paper's, VGG-16's
    critic_hidden: int = setting((2,), COUNT, "units of the critic's first fully connected layer", "SRGAN: 1024", 1024)
    deblur_denoise_width: int = setting((3, 4), COUNT, default=96)  # the paper's 96

    # stage 1: generator, MSE
    stage1_steps: int = setting(
        (1, CE), COUNT, "how long each stage trains", "to the plateau of the loss, within the profile's time"
    )
    stage1_batch: int = setting(
        (1, CE), COUNT, "photos in a batch", "Context Encoders: 64; DnCNN: 128; less where memory or time asks"
    )
    stage1_rate: float = setting(
        (1,),
        POSITIVE,
        "optimizer and learning rate of stages 1, 3 and 4",
        "Adam, warmed up and lowered along a cosine; DnCNN starts at 1e-3, SRGAN trains at 1e-4",
    )

    # stage 2: generator and critic; RMSProp, as the paper says
    stage2_steps: int = setting((2, CE), COUNT)
    stage2_batch: int = setting((2,), COUNT)
    stage2_rate: float = setting(
        (2,), POSITIVE, "learning rates of the Wasserstein GAN", "its authors' main.py: RMSProp at 5e-5", 5e-5
    )
    critic_rate: float = setting((2,), POSITIVE, default=5e-5)
    critic_steps: int = setting((2,), COUNT, "critic steps for each generator step", "its authors' main.py: 5", 5)
    critic_clip: float = setting(
        (2,), POSITIVE, "where the critic's weights are clipped", "its authors' main.py: 0.01", 0.01
    )
    mse_weight: float = setting((2,), WEIGHT, default=1.0)
    perceptual_weight: float = setting((2,), WEIGHT)
    adversarial_weight: float = setting((2,), WEIGHT)
    perceptual_weights: str = setting(
        (2,),
        ("imagenet, random or a path", bool),
        "the VGG-16 of the perceptual loss",
        'torchvision\'s, trained on ImageNet; "random" where nothing can be downloaded, and then every record says so',
        "imagenet",
    )

    # stage 3: deblurring-denoising network
    stage3_steps: int = setting((3,), COUNT)
    stage3_batch: int = setting((3,), COUNT)
    stage3_patch: int = setting(
        (3,), COUNT, "patches of the deblurring-denoising network", "DnCNN: 40 px; KAIR: 96 to 128 px"
    )
    stage3_rate: float = setting((3,), POSITIVE)
    stage3_mix: Mapping[str, float] = setting(
        (3,),
        MIX,
        "blur kernels and noise levels of stage 3",
        "half motion, half Gaussian blur and sigma up to 50, as in KAIR; in shares of the levels",
        {"low": 0.4, "medium": 0.3, "high": 0.3},
    )

    # stage 4: the cascade
    stage4_steps: int = setting((4,), COUNT)
    stage4_batch: int = setting((4,), COUNT)
    stage4_rate: float = setting((4,), POSITIVE)
    stage4_mix: Mapping[str, float] = setting(
        (4,),
        MIX,
        "what the joint training sees",
        "a hole with blur and noise from none to strong, since that is what the paper is for; in shares of the levels",
        {"none": 0.4, "low": 0.2, "medium": 0.2, "high": 0.2},
    )
    stage4_start: str = setting(
        (4,), one_of("pretrained", "scratch"), default="pretrained"
    )  # scratch: an arm of Table 2
    stage4_networks: str = setting((4,), one_of("both", "generator"), default="both")  # generator: an arm, too
    stage4_batch_norm: str = setting(
        (4,),
        one_of("reestimate", "freeze", "plain"),
        "batch norm between the two networks",
        "the second network's statistics come from other inputs than the generator gives it: they are measured anew "
        "after the training; chapter 6 shows the difference",
        "reestimate",
    )
    stage4_norm_steps: int = setting((4,), COUNT, default=50)  # batches that batch norm is measured on

    # the Context Encoder of Table 1; its widths are the generator's
    context_encoder_bottleneck: int = setting(
        (CE,),
        COUNT,
        "how the Context Encoder of Table 1 is trained (the paper takes its authors' results)",
        "its authors' README and train.lua: 4000 units in the bottleneck, fewer where the network is narrower; here on "
        "the same photos, in stage 1's batches, for the steps of stages 1 and 2 together",
        4000,
    )
    context_encoder_rate: float = setting(
        (CE,),
        POSITIVE,
        "learning rate of the Context Encoder's discriminator, a tenth of its own",
        "its authors' train.lua: Adam at 2e-4; here warmed up and lowered as in the stages",
        2e-4,
    )

    # the loop
    warmup_share: float = setting(ALL, WEIGHT, default=0.05)  # of the steps, the rate rising from 0
    log_every: int = setting((), COUNT, default=50)  # steps between two points of the loss curves
    save_every: int = setting((), COUNT, default=500)  # steps between two checkpoints
    precision: str = setting(ALL, one_of("auto", "32-true", "bf16-mixed"), default="auto")
    workers: int = setting((), WEIGHT, default=0)  # processes that read photos beside the training

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            wanted = _kind(item)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, item.name, value)
            if wanted is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, item.name, value)
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise ValueError(
                    f"profile {self.name!r}: {item.name} must be of type {wanted.__name__}, "
                    f"got {value!r} of type {type(value).__name__}"
                )
            rule, valid = item.metadata.get("check", ("", lambda _: True))
            try:
                right = valid(value)
            except TypeError:  # a text among the numbers, say
                right = False
            if not right:
                raise ValueError(f"profile {self.name!r}: {item.name} must be {rule}, got {value!r}")
        if self.hole >= self.size:
            raise ValueError(f"profile {self.name!r}: hole must be smaller than size ({self.size}), got {self.hole}")
        if self.save_every % self.log_every:
            raise ValueError(
                f"profile {self.name!r}: save_every must be a multiple of log_every ({self.log_every}), "
                f"got {self.save_every}: a resumed run's loss curve starts at a whole interval"
            )

    @property
    def context_encoder_steps(self) -> int:
        """As many as the two stages that train the generator to inpaint."""
        return self.stage1_steps + self.stage2_steps

    @property
    def context_encoder_batch(self) -> int:
        return self.stage1_batch


def _kind(item: dataclasses.Field) -> type:
    """The plain type of a field: ``tuple`` for ``tuple[int, ...]``."""
    return getattr(item.type, "__origin__", item.type)


_PROFILES = [
    Profile(
        name="smoke",
        about="2 CPU cores, minutes: every line runs, nothing is learned well",
        size=64,
        hole=28,
        generator_widths=(16, 24, 32, 48, 64),
        critic_widths=(8, 12, 16, 24, 32),
        critic_hidden=64,
        deblur_denoise_width=16,
        stage1_steps=400,
        stage1_batch=16,
        stage1_rate=2e-3,
        stage2_steps=40,
        stage2_batch=8,
        stage2_rate=2e-4,
        critic_rate=2e-4,
        critic_steps=2,
        critic_clip=0.03,
        perceptual_weight=0.1,
        adversarial_weight=0.001,
        perceptual_weights="random",
        stage3_steps=300,
        stage3_batch=16,
        stage3_patch=40,
        stage3_rate=2e-3,
        stage4_steps=100,
        stage4_batch=16,
        stage4_rate=5e-4,
        context_encoder_bottleneck=500,
        log_every=5,
        save_every=100,
    ),
    Profile(
        name="cpu",
        about="2 CPU cores, three hours: real photos at 128 px",
        size=128,
        hole=56,
        generator_widths=(32, 64, 128, 160, 96),
        critic_widths=(16, 32, 64, 128, 128),
        critic_hidden=256,
        deblur_denoise_width=48,
        stage1_steps=10_000,
        stage1_batch=16,
        stage1_rate=1e-3,
        stage2_steps=200,
        stage2_batch=8,
        critic_steps=2,
        perceptual_weight=0.1,
        adversarial_weight=0.001,
        perceptual_weights="random",
        stage3_steps=10_000,
        stage3_batch=16,
        stage3_patch=64,
        stage3_rate=1e-3,
        stage4_steps=1_600,
        stage4_batch=8,
        stage4_rate=2e-4,
        context_encoder_bottleneck=2000,
    ),
    Profile(
        name="gpu",
        about="one GPU such as Colab's, hours: the paper's networks at 128 px",
        size=128,
        hole=56,
        stage1_steps=40_000,
        stage1_batch=64,
        stage1_rate=1e-3,
        stage2_steps=5_000,
        stage2_batch=64,
        perceptual_weight=0.1,
        adversarial_weight=0.001,
        stage3_steps=30_000,
        stage3_batch=64,
        stage3_patch=64,
        stage3_rate=1e-3,
        stage4_steps=10_000,
        stage4_batch=64,
        stage4_rate=2e-4,
        workers=2,
    ),
    Profile(
        name="paper",
        about="several GPUs, days: ImageNet at 128 px",
        size=128,
        hole=56,
        stage1_steps=500_000,
        stage1_batch=64,
        stage1_rate=1e-3,
        stage2_steps=100_000,
        stage2_batch=64,
        perceptual_weight=0.1,
        adversarial_weight=0.001,
        stage3_steps=300_000,
        stage3_batch=128,
        stage3_patch=64,
        stage3_rate=1e-3,
        stage4_steps=200_000,
        stage4_batch=64,
        stage4_rate=2e-4,
        log_every=100,
        save_every=1_000,
        workers=8,
    ),
]
PROFILES = {profile.name: profile for profile in _PROFILES}


def read(name: str, changes: Mapping[str, Any] | None = None) -> Profile:
    """A profile by name, with some values changed.

    Raises:
        ValueError: an unknown profile or setting, or a value that is not valid; the message lists the right ones.

    Example:
        >>> read("smoke", {"stage1_steps": 10}).stage1_steps
        10
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; the profiles are {', '.join(PROFILES)}")
    changes = dict(changes or {})
    known = [item.name for item in fields(Profile) if item.name not in ("name", "about")]
    for key in changes:
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"unknown setting {key!r}{hint}; the settings are {', '.join(known)}")
    return dataclasses.replace(PROFILES[name], **changes)


def for_stage(profile: Profile, stage: int | str) -> dict[str, Any]:
    """The settings that decide what a stage or a trained baseline comes to, by name; two profiles that agree here train
    the same weights."""
    return {
        item.name: getattr(profile, item.name) for item in fields(profile) if stage in item.metadata.get("stages", ())
    }


def open_questions() -> list[dict[str, str]]:
    """One row for each value that the paper leaves out: the question, its source, and each profile's choice."""
    return [
        {
            "question": item.metadata["question"],
            "source": item.metadata["source"],
            "setting": item.name,
            **{name: _words(getattr(profile, item.name)) for name, profile in PROFILES.items()},
        }
        for item in fields(Profile)
        if item.metadata.get("question")
    ]


def _words(value: Any) -> str:
    """A value as a table shows it.

    >>> _words({"none": 0.4, "low": 0.6}), _words((117 / 255, 1.0)), _words(5e-5)
    ('none 0.4, low 0.6', '0.459, 1', '5e-05')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {share:g}" for name, share in value.items())
    if isinstance(value, tuple):
        return ", ".join(_words(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
