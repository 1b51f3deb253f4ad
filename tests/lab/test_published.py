"""The weights and results that come with the package: they are whole, small, and give the recorded numbers again."""

import pytest
import torch
from tiny import TINY

from cascade_lab import cli, data, published
from cascade_lab.evaluation import records, tables
from cascade_lab.evaluation.evaluate import evaluate
from cascade_lab.evaluation.methods import from_weights
from cascade_lab.evaluation.protocol import Protocol
from cascade_lab.training import checkpoints, profiles, stages

SMALL = {"size": 32, "hole": 12, "generator_widths": (4, 4, 4, 4, 4), "critic_widths": (2, 2, 2, 2, 2)}


@pytest.fixture
def finished(tmp_path):
    """A finished run's weights: a small generator and its critic."""
    profile = profiles.read("smoke", SMALL)
    networks = {name: stages.build(name, profile) for name in ("generator", "critic")}
    about = {"stage": 2, "profile": "smoke", "settings": stages.sizes(profile)}
    checkpoints.finish(tmp_path / "run", networks, about, [{"step": 1.0, "mse": 0.5}], {"stage": 2, "seed": 7})
    return tmp_path / "run" / checkpoints.WEIGHTS


class TestPublish:
    def test_halves_the_weights_and_keeps_what_they_do(self, finished, tmp_path):
        out = tmp_path / "small.safetensors"
        with pytest.raises(SystemExit) as ended:
            cli.main(["publish", str(finished), "--out", str(out)])
        assert ended.value.code == 0
        states, about = checkpoints.read_weights(out), checkpoints.read_about(out)
        assert sorted(states) == ["critic", "generator"]
        assert about["training"]["seed"] == 7
        kinds = {value.dtype for value in states["generator"].values() if value.dim() > 1}
        assert kinds == {torch.float16}
        image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        before, after = (stages.load(path)["generator"](image) for path in (finished, out))
        assert 0 < (before - after).abs().max() < 2e-3 or torch.equal(before, after)

    def test_a_critic_stays_with_stage_2_alone(self, finished, tmp_path):
        """Stage 4 may go on with stage 2's; its own restores nothing."""
        networks, about = stages.load(finished), checkpoints.read_about(finished) | {"stage": 4}
        checkpoints.finish(tmp_path / "last", networks, about, [{"step": 1.0}], {"stage": 4})
        published.publish(tmp_path / "last" / checkpoints.WEIGHTS, tmp_path / "x.safetensors")
        assert list(checkpoints.read_weights(tmp_path / "x.safetensors")) == ["generator"]

    def test_refuses_a_run_that_is_not_finished(self, finished, tmp_path):
        (finished.parent / checkpoints.RECORD).unlink()
        with pytest.raises(SystemExit):
            cli.main(["publish", str(finished), "--out", str(tmp_path / "x.safetensors")])
        assert not (tmp_path / "x.safetensors").exists()

    def test_refuses_weights_that_the_record_beside_them_does_not_tell_of(self, finished, tmp_path):
        other = finished.with_name("other.safetensors")
        checkpoints.save_weights(other, stages.load(finished), checkpoints.read_about(finished) | {"stage": 4})
        with pytest.raises(ValueError, match="no record beside .*other.safetensors tells of it"):
            published.publish(other, tmp_path / "x.safetensors")

    def test_refuses_weights_beyond_half_precision(self, finished, tmp_path):
        networks = stages.load(finished)
        with torch.no_grad():
            next(networks["generator"].parameters()).fill_(1e6)
        about = checkpoints.read_about(finished)
        checkpoints.finish(finished.parent, networks, about, [{"step": 1.0}], {})
        with pytest.raises(ValueError, match=r"generator\.encoder\.0\.0\.weight is too large"):
            published.publish(finished, tmp_path / "x.safetensors")

    @pytest.mark.parametrize("name", ["weights.safetensors", "./../run/weights.safetensors", "link.safetensors"])
    def test_never_replaces_the_runs_own_file(self, finished, name):
        (finished.parent / "link.safetensors").symlink_to(finished)
        before = finished.read_bytes()
        with pytest.raises(ValueError, match="is the run's own file"):
            published.publish(finished, finished.parent / name, force=True)
        assert finished.read_bytes() == before
        assert checkpoints.finished(finished.parent)

    def test_replaces_another_file_only_if_asked(self, finished, tmp_path):
        out = tmp_path / "there.safetensors"
        out.write_text("mine")
        with pytest.raises(ValueError, match="is there already; --force"):
            published.publish(finished, out)
        assert out.read_text() == "mine"
        published.publish(finished, out, force=True)
        assert "generator" in checkpoints.read_weights(out)

    @pytest.mark.parametrize("name", ["record.json", "losses.csv", "x.pt", "x"])
    def test_other_names_are_refused(self, finished, name):
        with pytest.raises(ValueError, match=r"name it \.safetensors"):
            published.publish(finished, finished.parent / name, force=True)

    def test_what_is_no_file(self, tmp_path):
        with pytest.raises(ValueError, match="is not a file: name a finished run's weights.safetensors"):
            published.publish(tmp_path, tmp_path / "x.safetensors")


def test_unknown_name():
    with pytest.raises(ValueError, match="cascade, cascade\\+"):
        published.weights("best")


@pytest.mark.parametrize("name", published.NAMES)
def test_weights_tell_what_trained_them(name):
    about = checkpoints.read_about(published.weights(name))
    record = about["training"]
    assert about["stage"] == record["stage"] == 4
    assert {"seed", "photos", "versions", "device", "commit", "seconds"} <= set(record)
    assert sorted(before["stage"] for before in record["before"]) == [2, 3]
    assert {before["stage"]: before for before in record["before"]}[2]["perceptual_weights"] == "random"


@pytest.mark.parametrize("name", published.STAGES)
def test_weights_of_a_stage_can_be_trained_on_from(name):
    """Their networks have the sizes of the profile that they name, as `stages.train` asks of what it is given."""
    path = published.weights(name)
    about = checkpoints.read_about(path)
    plus = name.endswith("+")
    assert name == f"stage {about['stage']}{'+' * plus}" == f"stage {about['training']['stage']}{'+' * plus}"
    assert stages.given_stages([path]) == {about["stage"]: path}
    for network in checkpoints.networks_in(path):
        stages.check_size(path, network, profiles.read(about["profile"], profiles.PLUS if plus else {}))


def test_a_stage_that_was_trained_further_counts_with_both_trainings(tmp_path, monkeypatch):
    tiny, photos = profiles.read("smoke", TINY), data.open_photos(None, "train")
    first = stages.train(1, tiny, photos, tmp_path / "runs")
    more = stages.train(
        1, tiny.changed(stage1_steps=3), photos, tmp_path / "runs", given=[first.folder / checkpoints.WEIGHTS]
    )
    monkeypatch.setattr(published, "folder", lambda: tmp_path)
    published.publish(more.folder / checkpoints.WEIGHTS, tmp_path / published.STAGES["stage 1"])
    assert [record["steps"] for record in published.every_training("stage 1")] == [tiny.stage1_steps, 3]
    assert published.trainings("stage 1")[1]["steps"] == 3


def test_all_weights_are_small():
    assert sum(path.stat().st_size for path in published.folder().glob("*.safetensors")) < 24e6


def test_the_recorded_numbers_come_out_again():
    """On the photos that everybody has, some of the recorded images, to 0.01 dB."""
    rows = records.read_table(published.folder(), "evaluations")
    rows = rows[(rows["data_set"] == "scikit-image") & (rows["mode"] == "grid")]
    protocol = Protocol(mode="grid")
    assert (rows[list(vars(protocol))] == list(vars(protocol).values())).all(axis=None)
    photos = data.open_photos(None, "test").only(["astronaut.png", "chelsea.png"])  # of which the record is
    recorded = tables.by_method(rows)
    assert list(recorded["cascade"].index) == data.crop_names(photos, protocol.size, protocol.mode)
    some = [0, 5, 12]
    crops = data.test_crops(photos, protocol.size, protocol.mode)[some]
    methods = from_weights(*(published.weights(name) for name in published.NAMES))
    assert {"cascade", "cascade+"} <= set(methods) <= set(recorded)
    for name, found in tables.by_method(evaluate(methods, crops, protocol)).items():
        for metric in ("psnr_hole", "psnr_context"):
            wanted = recorded[name][metric].iloc[some].tolist()
            assert found[metric].tolist() == pytest.approx(wanted, abs=0.01)
