import json

import pytest
import torch
from torch import nn

from cascade_lab.training import checkpoints

ABOUT = {"stage": 1, "settings": {"size": 32}}


def network(value: float) -> nn.Module:
    layer = nn.Linear(3, 2)
    nn.init.constant_(layer.weight, value)
    return layer


def resume(step: int) -> dict:
    return {"step": step, "history": [{"step": 1.0, "mse": 0.5}], "optimizers": {}}


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

    def test_refuses_another_network(self, tmp_path):
        path = tmp_path / "weights.safetensors"
        checkpoints.save_weights(path, {"a": network(1)}, ABOUT)
        with pytest.raises(ValueError, match="holds a, but no b"):
            checkpoints.load_into({"b": network(0)}, path)
        with pytest.raises(ValueError, match="the a in .* has another architecture"):
            checkpoints.load_into({"a": nn.Linear(4, 2)}, path)

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


class TestSteps:
    def test_keeps_the_last(self, tmp_path):
        for step in (5, 10):
            checkpoints.save_step(tmp_path, {"a": network(step)}, ABOUT, resume(step))
        assert [path.name for path in checkpoints.saved_steps(tmp_path)] == ["step-00000010"]
        fresh = network(0)
        back = checkpoints.load_step(checkpoints.saved_steps(tmp_path)[-1], {"a": fresh})
        assert back == resume(10)
        assert fresh.weight[0, 0] == 10

    def test_a_partial_step_does_not_count(self, tmp_path):
        checkpoints.save_step(tmp_path, {"a": network(1)}, ABOUT, resume(1))
        (tmp_path / ".step-00000002.123").mkdir()  # what a kill leaves behind
        assert [path.name for path in checkpoints.saved_steps(tmp_path)] == ["step-00000001"]

    def test_damage_is_named(self, tmp_path):
        checkpoints.save_step(tmp_path, {"a": network(1)}, ABOUT, resume(1))
        (tmp_path / "step-00000001" / "resume.pt").write_bytes(b"x")
        with pytest.raises(ValueError, match="step-00000001 cannot be resumed from .* remove it to start"):
            checkpoints.load_step(tmp_path / "step-00000001", {"a": network(0)})


class TestFinished:
    history = [{"step": 1.0, "mse": 0.5}, {"step": 2.0, "mse": 0.25}]  # noqa: RUF012

    def finish(self, folder):
        checkpoints.save_step(folder, {"a": network(1)}, ABOUT, resume(1))
        checkpoints.finish(folder, {"a": network(2)}, ABOUT, self.history, {"stage": 1})

    def test_round_trip(self, tmp_path):
        assert checkpoints.finished(tmp_path) is None
        self.finish(tmp_path)
        history, record = checkpoints.finished(tmp_path)
        assert history == self.history
        assert record["losses"] == self.history[-1]
        assert not checkpoints.saved_steps(tmp_path)

    def test_refuses_other_weights(self, tmp_path):
        self.finish(tmp_path)
        checkpoints.save_weights(tmp_path / "weights.safetensors", {"a": network(3)}, ABOUT)
        with pytest.raises(ValueError, match="weights.safetensors is not the file that record.json tells of"):
            checkpoints.finished(tmp_path)

    def test_the_record_comes_last(self, tmp_path):
        self.finish(tmp_path)
        (tmp_path / "record.json").unlink()
        assert checkpoints.finished(tmp_path) is None
        self.finish(tmp_path)
        assert json.loads((tmp_path / "record.json").read_text())["stage"] == 1
        assert torch.is_tensor(checkpoints.read_weights(tmp_path / "weights.safetensors")["a"]["weight"])
