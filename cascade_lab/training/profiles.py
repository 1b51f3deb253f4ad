"""The four sizes at which the book runs: smoke, cpu, gpu, paper.

Their values stand in ``profiles.toml`` beside this file. Every value that the paper leaves out stands there, once, with
what was chosen and the source; `open_questions` makes the book's table "What the paper leaves open" from it. Nothing
else in the package has a number of its own for training, but for the fixed part of the Context Encoder's recipe, which
is its authors'.
"""

import importlib.resources
import tomllib
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from cascade_core.conventions import FILLS
from cascade_core.degradations import LEVELS

TABLES = tomllib.loads((importlib.resources.files(__package__) / "profiles.toml").read_text("utf-8"))
SETTINGS: dict[str, dict[str, Any]] = TABLES["settings"]


class Shares(Mapping[str, float]):
    """Shares of the levels of blur and noise, which nobody can change; in the order of the levels.

    The order decides which photo gets which level, so it must not depend on how a mix was written down.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._pairs = tuple((n, shares[n]) for n in sorted(shares, key=lambda name: (*LEVELS, name).index(name)))

    def __getitem__(self, name: str) -> float:
        return dict(self._pairs)[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __repr__(self) -> str:
        return repr(dict(self._pairs))


Mix = Annotated[Shares, PlainSerializer(dict)]
Rule = tuple[Any, str, Callable[[Any], bool]]
RULES: dict[str, Rule] = {
    "count": (int, "a whole number of at least 1", lambda v: v >= 1),
    "side": (int, "a multiple of 32: networks halve an image five times", lambda v: v >= 32 and v % 32 == 0),
    "workers": (int, "0 or above", lambda v: v >= 0),
    "positive": (float, "above 0", lambda v: v > 0),
    "weight": (float, "0 or above", lambda v: v >= 0),
    "widths": (tuple[int, ...], "five whole numbers of at least 1", lambda v: len(v) == 5 and min(v) >= 1),
    "resolutions": (tuple[int, ...], "three whole numbers of at least 1", lambda v: len(v) == 3 and min(v) >= 1),
    "range": (tuple[float, float], "two shares, 0 <= low <= high <= 1", lambda v: 0 <= v[0] <= v[1] <= 1),
    "color": (tuple[float, float, float], "three values in [0, 1]", lambda v: min(v) >= 0 and max(v) <= 1),
    "mix": (
        Mix,
        f"shares that add up to 1, by the names {', '.join(LEVELS)}",
        lambda v: (
            set(v) <= set(LEVELS)
            and {type(share) for share in v.values()} <= {int, float}
            and min(v.values()) >= 0
            and abs(sum(v.values()) - 1) < 1e-6
        ),
    ),
    "fill": (str, "one of " + ", ".join(FILLS), lambda v: v in FILLS),
    "vgg": (str, "imagenet, caffe, random, or caffe:PATH or imagenet:PATH", bool),
}
"""What the checks of ``profiles.toml`` mean: a value's type, the words of a message, and the test of a value."""


def _rule(setting: str) -> Rule:
    """What a setting must be; a list in the file names the words that are allowed."""
    check = SETTINGS[setting]["check"]
    return RULES[check] if isinstance(check, str) else (str, "one of " + ", ".join(check), lambda v: v in check)


class Profile(BaseModel):
    """The settings of a run, all but photos and seed; frozen and hashable.

    It has one field for each setting of ``profiles.toml``, where its meaning, rule, default and source stand.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )
    name: str
    about: str

    if TYPE_CHECKING:

        def __getattr__(self, setting: str) -> Any: ...

    @field_validator("*", mode="before")
    @classmethod
    def _make_immutable(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return Shares(value)
        return tuple(value) if isinstance(value, list) else value

    @field_validator("*")
    @classmethod
    def _keep_the_rule(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name in SETTINGS and not _rule(info.field_name)[2](value):
            raise ValueError
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.hole >= self.size:
            raise ValueError(f"hole must be smaller than size ({self.size}), got {self.hole}")
        if self.generator_kind == "dilated" and self.generator_fill != "laplace and mask":
            raise ValueError(
                f"generator_kind 'dilated' needs generator_fill 'laplace and mask', got {self.generator_fill!r}"
            )
        if self.save_every % self.log_every:
            raise ValueError(
                f"save_every must be a multiple of log_every ({self.log_every}), "
                f"got {self.save_every}: a resumed run's loss curve starts at a whole interval"
            )
        return self

    def changed(self, **changes: Any) -> "Profile":
        """The same profile with some settings changed.

        Raises:
            ValueError: an unknown setting, or a value that is not valid; the message lists the right ones.

        Example:
            >>> read("smoke").changed(stage1_steps=3).stage1_steps
            3
        """
        for key in changes:
            if key not in SETTINGS:
                close = get_close_matches(key, SETTINGS, 1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise ValueError(f"unknown setting {key!r}{hint}; the settings are {', '.join(SETTINGS)}")
        return validated({**dict(self), **changes}, f"profile {self.name!r}:")

    @property
    def critic_side(self) -> int:
        """Of the square that critic and perceptual loss see, px: the image, or the hole with a rim."""
        return self.size if self.critic_sees == "image" else min(self.size, -(-(self.hole + 8) // 32) * 32)

    @property
    def context_encoder_steps(self) -> int:
        """As many as the two stages that train the generator to inpaint."""
        return self.stage1_steps + self.stage2_steps

    @property
    def context_encoder_batch(self) -> int:
        return self.stage1_batch


_FIELDS: dict[str, Any] = {name: (_rule(name)[0], ...) for name in SETTINGS}
_Complete = create_model("_Complete", __base__=Profile, __module__=__name__, **_FIELDS)


def validated(values: Mapping[str, Any], owner: str) -> Profile:
    """The profile of some values, or a ``ValueError`` in one line that begins with ``owner``."""
    try:
        return _Complete(**values)
    except ValidationError as invalid:
        error = invalid.errors()[0]
    if not error["loc"]:
        raise ValueError(f"{owner} {error['ctx']['error']}")
    name, *within = map(str, error["loc"])
    value = values.get(name)
    wanted, words, _ = _rule(name)
    if error["type"] in ("int_type", "float_type", "string_type") and not within:
        words, value = f"of type {wanted.__name__}", f"{value!r} of type {type(value).__name__}"
        raise ValueError(f"{owner} {name} must be {words}, got {value}")
    raise ValueError(f"{owner} {name} must be {words}, got {value!r}")


DEFAULTS = {name: setting["default"] for name, setting in SETTINGS.items() if "default" in setting}
PROFILES: dict[str, Profile] = {
    name: validated({**DEFAULTS, "name": name, **values}, f"profile {name!r}:")
    for name, values in TABLES["profiles"].items()
}


PLUS: dict[str, Any] = TABLES["plus"]
"""What makes a profile train cascade+ instead of the paper's cascade: ``read("cpu", PLUS)``."""


def read(name: str, changes: Mapping[str, Any] | None = None) -> Profile:
    """A profile by name, with some settings changed.

    Raises:
        ValueError: an unknown profile or setting, or a value that is not valid; the message lists the right ones.

    Example:
        >>> read("smoke", {"stage1_steps": 10}).stage1_steps
        10
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; the profiles are {', '.join(PROFILES)}")
    return PROFILES[name].changed(**changes or {})


def parse_setting(text: str) -> tuple[str, Any]:
    """A setting's name and value, as ``--set`` takes them.

    Raises:
        ValueError: the text has no equals sign.

    Example:
        >>> parse_setting("stage1_steps=10"), parse_setting("perceptual_weights=random")
        (('stage1_steps', 10), ('perceptual_weights', 'random'))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes NAME=VALUE, got {text!r}")
    try:
        return name, literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def for_stage(profile: Profile, stage: int | str) -> dict[str, Any]:
    """The settings that decide what a stage or a trained baseline comes to, by name; two profiles that agree here train
    the same weights."""
    values = profile.model_dump()
    return {name: values[name] for name, setting in SETTINGS.items() if stage in setting["stages"]}


def open_questions() -> list[dict[str, str]]:
    """One row for each value that the paper leaves out: the question, its source, and each profile's choice."""
    return [
        {
            "question": setting["question"],
            "source": setting["source"],
            "setting": name,
            **{profile: _words(getattr(chosen, name)) for profile, chosen in PROFILES.items()},
        }
        for name, setting in SETTINGS.items()
        if "question" in setting
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
