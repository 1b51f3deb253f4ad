import pickle

import pytest
from pydantic import ValidationError

from cascade_lab.training import profiles


def test_the_four_profiles():
    assert list(profiles.PROFILES) == ["smoke", "cpu", "gpu", "paper"]
    for name in ("gpu", "paper"):  # the paper's networks where it gives their sizes
        profile = profiles.read(name)
        assert profile.critic_widths == (64, 128, 256, 512, 512)
        assert (profile.generator_blocks, profile.deblur_denoise_width) == (7, 96)
        assert (profile.size, profile.hole) == (128, 56)


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_cascade_plus_fits_every_profile(name):
    plus = profiles.read(name, profiles.PLUS)
    changed = {key for key, value in plus.model_dump().items() if value != profiles.read(name).model_dump()[key]}
    assert changed <= set(profiles.PLUS)
    assert {"generator_kind", "generator_fill", "hole_place", "stage2_game", "stage4_game"} <= changed


def test_frozen():
    with pytest.raises(ValidationError):
        profiles.read("smoke").size = 128


def test_nothing_inside_a_profile_can_be_changed_either():
    """Two profiles that share a mix, and a change to one of them: the other must not follow."""
    smoke, other = profiles.read("smoke"), profiles.read("smoke", {"stage1_steps": 3})
    with pytest.raises(TypeError):
        smoke.stage3_mix["low"] = 1.0
    assert other.stage3_mix == {"low": 0.4, "medium": 0.3, "high": 0.3}
    assert len({smoke, profiles.read("smoke"), other}) == 2  # hashable, by value


def test_changes_do_not_touch_the_mapping_that_was_given():
    mix = {"high": 0.5, "low": 0.5}
    profile = profiles.read("smoke", {"stage4_mix": mix})
    mix["none"] = 1.0
    assert list(profile.stage4_mix.items()) == [("low", 0.5), ("high", 0.5)]  # in the order of the levels


def test_plain_values_come_out_again():
    profile = profiles.read("smoke", {"critic_steps": 3})
    again = profiles.read("smoke").changed(**{k: v for k, v in profile.model_dump().items() if k in profiles.SETTINGS})
    assert again == profile == pickle.loads(pickle.dumps(profile))
    assert profile.model_dump()["stage3_mix"] == {"low": 0.4, "medium": 0.3, "high": 0.3}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("smok", {}, "unknown profile 'smok'; the profiles are smoke, cpu, gpu, paper"),
        (
            "smoke",
            {"stage1_step": 3},
            r"unknown setting 'stage1_step' \(did you mean stage1_steps\?\); the settings are",
        ),
        ("smoke", {"name": "mine"}, "unknown setting 'name'"),
        ("smoke", {"hole": "28"}, "hole must be of type int, got '28' of type str"),
        ("smoke", {"stage1_steps": True}, "stage1_steps must be of type int"),
        ("smoke", {"stage1_steps": 0}, "stage1_steps must be a whole number of at least 1, got 0"),
        ("smoke", {"stage1_rate": float("nan")}, "stage1_rate must be above 0"),
        ("smoke", {"size": 100}, "size must be a multiple of 32"),
        ("smoke", {"hole": 64}, r"hole must be smaller than size \(64\), got 64"),
        ("smoke", {"generator_widths": (8, 8)}, "generator_widths must be five whole numbers"),
        ("smoke", {"hole_color": (0.5, "gray", 0.5)}, r"hole_color must be three values in \[0, 1\]"),
        ("smoke", {"stage4_mix": {"none": 0.5, "weak": 0.5}}, "by the names none, low, medium, high"),
        ("smoke", {"stage4_mix": {"none": 0.5}}, "stage4_mix must be shares that add up to 1"),
        ("smoke", {"stage4_batch_norm": "off"}, "one of reestimate, freeze, plain, got 'off'"),
        ("smoke", {"precision": "16"}, "one of auto, 32-true, bf16-mixed"),
        (
            "smoke",
            {"generator_widths": (4, 4, 4, 4, True)},
            r"five whole numbers .*, got \(4, 4, 4, 4, True\)",
        ),
        ("smoke", {"generator_widths": "44444"}, "five whole numbers of at least 1, got '44444'"),
        ("smoke", {"critic_rate": -1e-5}, "profile 'smoke': critic_rate must be above 0, got -1e-05"),
        ("smoke", {"scale": (0.0, float("nan"))}, "scale must be two shares"),
        ("smoke", {"scale": (0.0, 0.5, 1.0)}, "scale must be two shares"),
        ("smoke", {"stage4_mix": {"low": True}}, "stage4_mix must be shares that add up to 1"),
        ("smoke", {"stage4_mix": {"low": 1.5, "high": -0.5}}, "stage4_mix must be shares that add up to 1"),
        ("smoke", {"warmup_share": -0.1}, "warmup_share must be 0 or above, got -0.1"),
        ("smoke", {"save_every": 12}, r"save_every must be a multiple of log_every \(5\), got 12"),
    ],
)
def test_wrong_names_and_values_list_the_right_ones(name, changes, message):
    with pytest.raises(ValueError, match=message):
        profiles.read(name, changes)


def test_values_are_made_plain():
    profile = profiles.read("smoke", {"hole_color": [1, 0, 1], "stage1_rate": 1})
    assert profile.hole_color == (1, 0, 1)
    assert isinstance(profile.stage1_rate, float)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("stage1_steps=10", ("stage1_steps", 10)),
        ("generator_widths=(4,4,4,4,True)", ("generator_widths", (4, 4, 4, 4, True))),
        ("perceptual_weights=a=b.pth", ("perceptual_weights", "a=b.pth")),
        ("stage1_rate=nan", ("stage1_rate", "nan")),
    ],
)
def test_settings_as_the_shell_gives_them(text, setting):
    assert profiles.parse_setting(text) == setting


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(ValueError, match="--set takes NAME=VALUE, got 'stage1_steps'"):
        profiles.parse_setting("stage1_steps")


def test_every_setting_has_its_rule_and_stages():
    """A misspelled rule or stage in profiles.toml would be found by nobody else."""
    for name, setting in profiles.SETTINGS.items():
        assert set(setting) <= {"check", "stages", "default", "question", "source"}, name
        assert set(setting["stages"]) <= {1, 2, 3, 4, "context_encoder"}, name
        assert isinstance(setting["check"], list) or setting["check"] in profiles.RULES, name
        assert ("question" in setting) == ("source" in setting), name


def test_settings_of_a_stage():
    smoke = profiles.read("smoke")
    changed = profiles.read("smoke", {"stage4_steps": 7, "log_every": 5})
    for stage in (1, 2, 3):
        assert profiles.for_stage(changed, stage) == profiles.for_stage(smoke, stage)
    assert profiles.for_stage(changed, 4) != profiles.for_stage(smoke, 4)
    for stage in (1, 2, 3, 4):  # every stage knows its own length, batch and rate
        assert {f"stage{stage}_steps", f"stage{stage}_batch", f"stage{stage}_rate"} <= set(
            profiles.for_stage(smoke, stage)
        )


def test_open_questions_have_a_source_and_every_profiles_choice():
    rows = profiles.open_questions()
    assert len(rows) >= 12
    for row in rows:
        assert row["source"], row["question"]
        assert {"smoke", "cpu", "gpu", "paper"} <= set(row)
