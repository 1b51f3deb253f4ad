import json
import os
import sys

import pytest
import torch
from tiny import TINY
from torch import nn

from cascade_lab.training import checkpoints, profiles, stages

ABOUT = {"stage": 1, "settings": {"size": 32}}


def network(value: float) -> nn.Module:
    layer = nn.Linear(3, 2)
    nn.init.constant_(layer.weight, value)
    return layer


def resume(step: int) -> dict:
    weight = torch.full((2, 3), float(step))
    return {"step": step, "history": [{"step": 1.0, "mse": 0.5}], "optimizers": {}, "weight": weight}


class TestWeights:
    def test_round_trip(self, tmp_path):
        path = tmp_path / "new" / "weights.safetensors"
        checkpoints.save_weights(path, {"a": network(1), "b": network(2)}, ABOUT)
        states = checkpoints.read_weights(path)
        assert checkpoints.read_about(path) == ABOUT
        assert {name: state["weight"][0, 0].item() for name, state in states.items()} == {"a": 1, "b": 2}

    def test_refuses_what_is_not_whole(self, tmp_path):
        path = tmp_path / "weights.safetensors"
        for read in (checkpoints.read_weights, checkpoints.read_about):
            with pytest.raises(ValueError, match="weights.safetensors holds no whole weights"):
                read(path)
        checkpoints.save_weights(path, {"a": network(1)}, ABOUT)
        path.write_bytes(path.read_bytes()[:-5])
        for read in (checkpoints.read_weights, checkpoints.read_about):
            with pytest.raises(ValueError, match="weights.safetensors holds no whole weights"):
                read(path)

    def test_a_failed_write_leaves_the_old_file_and_no_other(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("old")

        def fails(file):
            file.write_text("half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            checkpoints.write_atomically(path, fails)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """Renamed first, it would be empty after a power cut."""
    done, path = [], tmp_path / "a.txt"
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_ino) or sync(file))
    monkeypatch.setattr(os, "replace", lambda old, new: done.append(os.stat(old).st_ino) or rename(old, new))
    checkpoints.write_atomically(path, lambda file: file.write_text("whole"))
    assert done == [path.stat().st_ino] * 2


class TestSteps:
    def test_keeps_the_last(self, tmp_path):
        for step in (5, 10):
            checkpoints.save_step(tmp_path, resume(step))
        assert [path.name for path in tmp_path.iterdir()] == ["resume.pt"]
        back = []
        checkpoints.load_step(tmp_path, back.append)
        assert [state.pop("weight")[0, 0] for state in back] == [10]
        assert back == [{"step": 10, "history": [{"step": 1.0, "mse": 0.5}], "optimizers": {}}]

    def test_a_partial_step_does_not_count(self, tmp_path):
        checkpoints.save_step(tmp_path, resume(1))
        (tmp_path / ".resume.pt.123").write_text("half")  # what a kill leaves behind
        back = []
        checkpoints.load_step(tmp_path, back.append)
        assert [state["step"] for state in back] == [1]
        checkpoints.clear(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["resume.pt"]

    def test_without_a_step_nothing_is_restored(self, tmp_path):
        checkpoints.load_step(tmp_path, lambda state: pytest.fail("there is none"))

    def test_damage_is_named(self, tmp_path):
        (tmp_path / "resume.pt").write_bytes(b"x")
        with pytest.raises(ValueError, match="resume.pt cannot be resumed from .* remove it to start"):
            checkpoints.load_step(tmp_path, dict)

    def test_a_step_that_lacks_something_is_named(self, tmp_path):
        checkpoints.save_step(tmp_path, {"step": 1})
        with pytest.raises(ValueError, match="resume.pt cannot be resumed from .it has no 'rates'.; remove it"):
            checkpoints.load_step(tmp_path, lambda state: state["rates"])

    @pytest.mark.parametrize(
        "save",
        [
            lambda folder: checkpoints.save_step(folder, {"step": torch.zeros(5000)}),
            lambda folder: checkpoints.finish(folder, {"a": nn.Linear(99, 99)}, {}, [{}], {}),
        ],
        ids=["step", "finish"],
    )
    def test_a_full_disk_is_told_in_a_line(self, save, tmp_path):
        """As where the disk is full: no file may grow beyond some bytes, which each library reports in its own way."""
        resource = pytest.importorskip("resource", reason="no limits there")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
        try:
            with pytest.raises(OSError, match="cannot be written.*the same command goes on") as error:
                save(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert str(error.value).startswith(str(tmp_path))
        assert "\n" not in str(error.value)


class TestHeader:
    """A file may come from anywhere: what its header says must fit its tensors before anything is built."""

    @pytest.fixture
    def written(self, tmp_path):
        profile = profiles.read("smoke", TINY)
        networks = {"generator": stages.build("generator", profile)}

        def write(**changes):
            path = tmp_path / "odd.safetensors"
            settings = {k: v for k, v in (stages.sizes(profile) | changes).items() if v is not None}
            checkpoints.save_weights(path, networks, {"settings": settings})
            return path

        return write

    def test_what_fits_is_loaded_to_the_bit(self, written):
        built = stages.build("generator", profiles.read("smoke", TINY))
        loaded = stages.load(written())["generator"]
        for name, value in built.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name
        assert all(parameter.requires_grad for parameter in loaded.parameters())
        assert not loaded.training

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"size": None}, "it has no 'size'"),
            ({"hole": 0}, "hole must be a whole number of at least 1, got 0"),
            ({"hole": 32}, r"hole must be smaller than size \(32\), got 32"),
            ({"generator_widths": [4, 4, 4, 4, 4.5]}, "generator_widths must be five whole numbers"),
            ({"generator_widths": "wide"}, "generator_widths must be five whole numbers"),
            ({"generator_widths": [4, 4, 4, 4, 120_000]}, "size mismatch for encoder"),  # 57 GB
            ({"generator_widths": [4, 4, 4, 4, 10**12]}, "size|overflow"),
            ({"generator_blocks": 10**9}, "fewer tensors than its generator_blocks"),
            ({"generator_fill": "colour"}, "generator_fill must be one of color"),
        ],
        ids=str,
    )
    def test_what_does_not_fit_is_told_in_a_line(self, changes, message, written):
        with pytest.raises(
            ValueError, match=f"header of .*odd.safetensors does not fit its weights .*({message})"
        ) as told:
            stages.load(written(**changes))
        assert "\n" not in str(told.value)

    @pytest.mark.parametrize("about", [{}, None, {"settings": None}, [], "text"], ids=str)
    def test_a_header_of_another_kind(self, about, tmp_path):
        checkpoints.save_weights(tmp_path / "odd.safetensors", {"a": network(1)}, about)
        with pytest.raises(ValueError, match="odd.safetensors holds no whole weights of this package"):
            stages.load(tmp_path / "odd.safetensors")

    def test_a_network_of_another_name(self, tmp_path):
        settings = stages.sizes(profiles.read("smoke", TINY))
        checkpoints.save_weights(tmp_path / "odd.safetensors", {"a": network(1)}, {"settings": settings})
        with pytest.raises(ValueError, match="odd.safetensors .*'a'"):
            stages.load(tmp_path / "odd.safetensors")

    def test_weights_that_are_not_numbers_are_refused(self, tmp_path):
        checkpoints.save_weights(tmp_path / "odd.safetensors", {"a": network(float("nan"))}, ABOUT)
        with pytest.raises(ValueError, match="odd.safetensors: a.weight is not a number"):
            checkpoints.read_weights(tmp_path / "odd.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes there")
def test_others_may_read_the_weights_where_the_umask_lets_them(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o027, 0o640)):
        before = os.umask(mask)
        try:
            checkpoints.save_weights(tmp_path / "w.safetensors", {"a": network(1)}, ABOUT)
            assert os.umask(mask) == mask  # left as it was
        finally:
            os.umask(before)
        assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == mode


class TestFinished:
    history = [{"step": 1.0, "mse": 0.5}, {"step": 2.0, "mse": 0.25}]  # noqa: RUF012

    def finish(self, folder):
        checkpoints.save_step(folder, resume(1))
        checkpoints.finish(folder, {"a": network(2)}, ABOUT, self.history, {"stage": 1})

    def test_round_trip(self, tmp_path):
        assert checkpoints.finished(tmp_path) is None
        self.finish(tmp_path)
        history, record = checkpoints.finished(tmp_path)
        assert history == self.history
        assert record["losses"] == self.history[-1]
        assert not (tmp_path / "resume.pt").exists()

    def test_refuses_other_weights(self, tmp_path):
        self.finish(tmp_path)
        checkpoints.save_weights(tmp_path / "weights.safetensors", {"a": network(3)}, ABOUT)
        with pytest.raises(ValueError, match="weights.safetensors is not the file that record.json tells of"):
            checkpoints.finished(tmp_path)

    def test_a_record_tells_of_its_own_file_alone(self, tmp_path):
        """Weights of another stage that were copied beside a record must not pass for that stage's."""
        self.finish(tmp_path)
        assert checkpoints.record_beside(tmp_path / "weights.safetensors")["stage"] == 1
        checkpoints.save_weights(tmp_path / "other.safetensors", {"a": network(3)}, ABOUT)
        assert checkpoints.record_beside(tmp_path / "other.safetensors") is None
        assert checkpoints.record_beside(tmp_path / "nowhere" / "weights.safetensors") is None

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            (
                "record.json",
                "{}",
                "not a whole record of a training .it has no 'weights_sha256'.; remove",
            ),
            ("record.json", "[]", "record.json is not a whole record of a training"),
            ("record.json", "{", "record.json is not a whole record of a training"),
            ("losses.csv", None, "losses.csv is not a whole loss curve .*; remove .* to train it again"),
            ("losses.csv", "step,mse\n1.0,much\n", "losses.csv is not a whole loss curve"),
            ("weights.safetensors", None, "weights.safetensors is not the file that record.json tells of"),
        ],
    )
    def test_damage_is_named(self, name, text, message, tmp_path):
        self.finish(tmp_path)
        if text is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message) as told:
            checkpoints.finished(tmp_path)
        assert "\n" not in str(told.value)

    def test_the_record_comes_last(self, tmp_path):
        self.finish(tmp_path)
        (tmp_path / "record.json").unlink()
        assert checkpoints.finished(tmp_path) is None
        self.finish(tmp_path)
        assert json.loads((tmp_path / "record.json").read_text())["stage"] == 1
        assert torch.is_tensor(checkpoints.read_weights(tmp_path / "weights.safetensors")["a"]["weight"])
