"""What gives a trained network another name, and what does not: in copies of the packages, changed in one place."""

import shutil

import pytest

from cascade_lab.training import naming


@pytest.fixture
def copy(tmp_path):
    for package in ("cascade_core", "cascade_lab"):
        shutil.copytree(naming.ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert named(tmp_path) == naming.code_hash()
    return tmp_path


def named(root, *more: str) -> str:
    return naming.code_hash.__wrapped__(more, root)  # not from the cache


def replace(root, module: str, old: str, new: str) -> None:
    path = root / module
    text = path.read_text("utf-8")
    assert old in text, f"{module} has changed: choose another line"
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("cascade_core/steps.py", '"""Stage 1: the generator', '"""Stage 1, in other words: the generator'),
        ("cascade_core/steps.py", "    photo = next(photos)\n", "    photo = next(photos)  # one batch\n\n"),
        ("cascade_lab/training/loop.py", '"""The loop under', '"""A loop under'),
        ("cascade_lab/training/plan.py", '"""The settings that fix', '"""All settings that fix'),  # below a constant
        ("cascade_lab/show/figures.py", "PAGE = 7.68", "PAGE = 7.69"),
        ("cascade_lab/evaluation/tables.py", "def ", "async def "),
        ("cascade_lab/baselines/mean.py", "def mean", "def median"),
        ("cascade_lab/provenance.py", "timeout=60", "timeout=61"),
    ],
)
def test_prose_drawings_and_tables_orphan_no_training(module, old, new, copy):
    before = named(copy)
    replace(copy, module, old, new)
    assert named(copy) == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("cascade_core/steps.py", "loss = mse_loss(", "loss = 2 * mse_loss("),
        ("cascade_core/degradations.py", "* 56 / 128", "* 57 / 128"),
        ("cascade_lab/training/loop.py", "0.5 * (1 + math.cos", "0.5 * (1 - math.cos"),
        ("cascade_lab/data/sources.py", "VERIFY = 5000", "VERIFY = 5001"),
        ("cascade_lab/devices.py", "<< 31", "<< 30"),
        ("cascade_lab/variants.py", "F.relu(1 - real", "F.relu(2 - real"),
    ],
)
def test_another_step_loss_or_crop_has_another_name(module, old, new, copy):
    before = named(copy)
    replace(copy, module, old, new)
    assert named(copy) != before


def test_a_baseline_that_is_trained_counts_for_itself_alone(copy):
    module = "cascade_lab/baselines/context_encoder.py"
    before, own = named(copy), named(copy, module)
    replace(copy, module, "OVERLAP = 10.0", "OVERLAP = 9.0")
    assert named(copy) == before
    assert named(copy, module) != own


def test_a_new_module_counts(copy):
    before = named(copy)
    (copy / "cascade_core" / "more.py").write_text("x = 1\n")
    assert named(copy) != before


def test_nothing_is_left_of_prose():
    code = '"""A."""\n\nx = 1  # b\n"""What x is."""\n\n\ndef f():\n    """C."""\n'
    code += '\n\nclass D:\n    """E."""\n    y = "text"\n'
    assert naming.without_prose(code) == "x = 1\n\ndef f():\n\nclass D:\n    y = 'text'"
