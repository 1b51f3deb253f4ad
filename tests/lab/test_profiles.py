import dataclasses

import pytest

from cascade_lab.training import profiles


def test_the_four_profiles():
    assert list(profiles.PROFILES) == ["smoke", "cpu", "gpu", "paper"]
    for name in ("gpu", "paper"):  # the paper's networks where it gives their sizes
        profile = profiles.read(name)
        assert profile.critic_widths == (64, 128, 256, 512, 512)
        assert (profile.generator_blocks, profile.deblur_denoise_width) == (7, 96)
        assert (profile.size, profile.hole) == (128, 56)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.read("smoke").size = 128


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
