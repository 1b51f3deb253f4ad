"""The four stages, really trained, in sizes that take seconds."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import two_ranks
from PIL import Image
from tiny import TINY, job, settings, write_shards
from torch.optim.swa_utils import update_bn

from cascade_core import steps
from cascade_core.degradations import degrade
from cascade_core.losses import mse_loss
from cascade_lab import cli, data, devices, nodes, published
from cascade_lab.training import checkpoints, loop, naming, profiles, stages
from cascade_lab.training.stages import TrainingError

SMALL = TINY | {
    "generator_widths": (8, 8, 8, 8, 8),
    "critic_widths": (4, 4, 8, 8, 8),
    "critic_hidden": 8,
    "deblur_denoise_width": 8,
    "stage4_norm_steps": 3,
    **{f"stage{number}_steps": 24 for number in stages.STAGES},
    **{f"stage{number}_batch": 4 for number in stages.STAGES},
}


@pytest.fixture(scope="module")
def wheel():
    return data.open_photos(None, "train")


@pytest.fixture(scope="module")
def tiny():
    return profiles.read("smoke", SMALL)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny, wheel):
    """All four stages, trained without a break: (folder, stage -> run)."""
    out = tmp_path_factory.mktemp("runs")
    stages.train(4, tiny, wheel, out)
    return out, {stage: stages.train(stage, tiny, wheel, out) for stage in stages.STAGES}


def words(out, *more: str) -> list[str]:
    """The command that trains the same cascade."""
    return ["train", "4", "--device", "cpu", "--out", str(out), *settings(SMALL), *more]


def in_a_process(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    cli.main(arguments)


class TestRun:
    def test_four_folders_with_a_record(self, runs):
        out, by_stage = runs
        assert len(list(out.iterdir())) == 4
        for stage, run in by_stage.items():
            assert sorted(p.name for p in run.folder.iterdir()) == ["losses.csv", "record.json", "weights.safetensors"]
            assert set(run.networks) == set(stages.STAGES[stage].networks)
            assert not any(network.training for network in run.networks.values())
            assert [point["step"] for point in run.history] == list(range(2, 25, 2))
            record = run.record
            assert (record["stage"], record["steps"]) == (stage, 24)
            assert record["photos"]["count"] == 7
            assert record["versions"]["torch"] == torch.__version__
            assert {"seed", "seconds", "device", "precision", "commit", "settings", "losses"} <= set(record)
        assert by_stage[2].record["perceptual_weights"] == "random"

    @pytest.mark.parametrize(("stage", "name"), [(1, "generator"), (3, "deblur_denoise")])
    def test_learns(self, stage, name, tiny, wheel, photos, tmp_path):
        """On photos that it never saw, a network of some hundred steps is better than doing nothing."""
        longer = profiles.read("smoke", {**SMALL, f"stage{stage}_steps": 150, f"stage{stage}_batch": 8})
        network = stages.train(stage, longer, wheel, tmp_path).networks[name]
        small = photos[..., 16:48, 16:48]
        rng = devices.random_for("cpu", 0)
        degraded = steps.with_hole(small, tiny) if stage == 1 else degrade(small, None, {"high": 1.0}, rng).images
        with torch.no_grad():
            assert mse_loss(network(degraded), small) < 0.9 * mse_loss(degraded, small)

    def test_each_stage_starts_from_the_one_before(self, runs, tiny, wheel, tmp_path):
        """Stage 2 without a single step's change would be stage 1: a tiny rate leaves its generator next to it."""
        _, by_stage = runs
        still = profiles.read("smoke", {**SMALL, "stage2_steps": 1, "stage2_rate": 1e-12})
        run = stages.train(2, still, wheel, runs[0])
        for name, value in by_stage[1].networks["generator"].named_parameters():
            other = run.networks["generator"].get_parameter(name)
            torch.testing.assert_close(other, value, rtol=0, atol=1e-9)

    def test_a_run_that_pauses_at_every_point_ends_in_the_same_bits(self, runs, tiny, wheel, tmp_path):
        """In slices with no time at all, each makes the steps to the next point of the loss curves and saves them."""
        for pauses in range(1, 12):
            with pytest.raises(stages.Paused, match=f"paused at step {2 * pauses} of 24"):
                stages.train(1, tiny, wheel, tmp_path, until=0.0)
        run, whole = stages.train(1, tiny, wheel, tmp_path, until=0.0), runs[1][1]
        assert (run.folder / "weights.safetensors").read_bytes() == (whole.folder / "weights.safetensors").read_bytes()
        assert run.history == runs[1][1].history

    def test_the_record_holds_those_of_the_stages_before(self, runs):
        record = runs[1][4].record
        assert [before["stage"] for before in record["before"]] == [2, 3]
        assert record["before"][0]["before"][0]["weights_sha256"] == runs[1][1].record["weights_sha256"]

    def test_loads_what_is_finished(self, runs, tiny, wheel, monkeypatch):
        out, by_stage = runs
        monkeypatch.setattr(loop, "run", None)  # would fail if anything were trained
        again = stages.train(4, tiny, wheel, out)
        assert again.record == by_stage[4].record
        weight = "generator.encoder.0.0.weight"
        assert torch.equal(
            again.networks["generator"].get_parameter(weight.partition(".")[2]),
            by_stage[4].networks["generator"].get_parameter(weight.partition(".")[2]),
        )

    def test_folders_follow_what_decides_the_outcome(self, tiny, wheel, tmp_path):
        def folders(profile, seed=0):
            return [stages.folder_of(stage, job(profile, wheel, tmp_path, seed)).name for stage in stages.STAGES]

        same = profiles.read("smoke", {**SMALL, "log_every": 4})
        fourth = profiles.read("smoke", {**SMALL, "stage4_batch_norm": "plain"})
        first = profiles.read("smoke", {**SMALL, "stage1_rate": 1e-5})
        base = folders(tiny)
        assert folders(same) == base
        assert [a == b for a, b in zip(folders(fourth), base, strict=True)] == [True, True, True, False]
        assert [a == b for a, b in zip(folders(first), base, strict=True)] == [False, False, True, False]
        assert not set(folders(tiny, seed=1)) & set(base)

    def test_folders_follow_ranks_and_precision(self, tiny, wheel, tmp_path):
        def folder(profile, ranks=1, photos=wheel):
            fabric = SimpleNamespace(world_size=ranks, global_rank=0, device=torch.device("cpu"))
            return stages.folder_of(1, stages.Job(profile, photos, tmp_path, 0, fabric)).name

        assert folder(tiny, ranks=2) != folder(tiny)
        assert folder(tiny.changed(precision="bf16-mixed")) != folder(tiny)
        resolved = devices.best_precision("auto", torch.device("cpu"))
        assert folder(tiny.changed(precision="auto")) == folder(tiny.changed(precision=resolved))
        assert folder(tiny.changed(workers=2)) == folder(tiny)  # the same photos, read ahead
        stream = data.Shards("shards", "", [{"file": "a.tar", "photos": 9, "sha256": "0"}], {})
        assert folder(tiny.changed(workers=2), photos=stream) != folder(tiny, photos=stream)  # other photos in a step

    def test_folders_follow_the_code_and_the_version_of_pytorch(self, tiny, wheel, tmp_path, monkeypatch):
        def folders():
            return [stages.folder_of(stage, job(tiny, wheel, tmp_path)).name for stage in stages.STAGES]

        base = folders()
        with monkeypatch.context() as patch:
            patch.setattr(torch, "__version__", "0.0")
            assert not set(folders()) & set(base)
        monkeypatch.setattr(naming, "code_hash", lambda *_: "another")
        assert not set(folders()) & set(base)

    def test_the_learning_rates_follow_their_curve_and_the_critics_stays(self, runs, tiny, wheel):
        """Seen at each step of a run that pauses at every point of its loss curve."""
        seen = {}

        def step(t, photos, rng):
            seen[t.step] = {name: optimizer.param_groups[0]["lr"] for name, optimizer in t.optimizers.items()}
            return steps.step_2(t, photos, rng)

        watched = replace(job(tiny.changed(stage2_steps=8, stage2_rate=0.5), wheel, runs[0]), until=0.0)
        for _ in range(3):
            with pytest.raises(stages.Paused):
                stages.fit(replace(stages.STAGES[2], step=step), watched)
        stages.fit(replace(stages.STAGES[2], step=step), watched)
        factors = [loop.rate_factor(k, 8, tiny.warmup_share) for k in range(8)]
        assert [seen[k]["generator"] for k in range(8)] == [0.5 * factor for factor in factors]
        assert {rates["critic"] for rates in seen.values()} == {tiny.critic_rate}

    def test_it_pauses_in_time_and_counts_its_seconds(self, runs, tiny, wheel, tmp_path, monkeypatch):
        """By a clock on which a step takes 2 s, and so 4 s pass between two points of the loss curve."""
        clock, bars = SimpleNamespace(now=100.0), []

        def step(t, photos, rng):
            clock.now += 2
            return steps.step_1(t, photos, rng)

        def bar(title, total, done):
            bars.append((total, done))
            return SimpleNamespace(update=lambda *_: None)

        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))
        monkeypatch.setattr(loop, "Progress", bar)
        slow, base = replace(stages.STAGES[1], step=step), job(tiny, wheel, tmp_path)
        with pytest.raises(stages.Paused, match="paused at step 4 of 24"):
            stages.fit(slow, replace(base, until=110.0))  # at 104 s half a point more than the next would fit
        clock.now = 200.0
        with pytest.raises(stages.Paused, match="paused at step 6 of 24"):
            stages.fit(slow, replace(base, until=209.9))
        stages.fit(slow, base)
        assert bars == [(24, 0), (24, 4), (24, 6)]
        assert stages.train(1, tiny, wheel, tmp_path).record["seconds"] == 48

    def test_each_step_has_random_numbers_of_its_own(self, tiny, wheel, tmp_path):
        base, seeds = job(tiny.changed(stage1_steps=6), wheel, tmp_path), []

        def step(t, photos, rng):
            seeds.append(rng.initial_seed())
            return steps.step_1(t, photos, rng)

        stages.fit(replace(stages.STAGES[1], step=step), base)
        assert seeds == [devices.random_for("cpu", 0, 1, number, 0).initial_seed() for number in range(6)]
        assert len(set(seeds)) == 6

    @pytest.mark.parametrize(("number", "level"), [(3, "low"), (4, "high")])
    def test_stages_3_and_4_degrade_by_a_mix_of_their_own(self, number, level, tiny, wheel, monkeypatch):
        profile = tiny.changed(stage3_mix={"low": 1.0}, stage4_mix={"high": 1.0})
        stage, asked = stages.STAGES[number], []
        networks = {name: stages.build(name, profile) for name in stage.trains(profile)}
        t = stages.prepare(stage, profile, devices.fabric_for("32-true", "cpu"), networks)
        monkeypatch.setattr(steps, "degrade", lambda *given: asked.append(dict(given[2])) or degrade(*given))
        stage.step(t, data.training_batches(wheel, 32, 2, 0, 0, 1), devices.random_for("cpu", 0))
        assert asked == [{level: 1.0}]

    def test_steps_are_saved_at_their_interval(self, tiny, wheel, tmp_path):
        base, saved = job(tiny.changed(stage1_steps=10), wheel, tmp_path), []
        resume = stages.folder_of(1, base) / checkpoints.RESUME

        def step(t, photos, rng):
            saved.append(torch.load(resume, weights_only=True)["step"] if resume.is_file() else None)
            return steps.step_1(t, photos, rng)

        stages.fit(replace(stages.STAGES[1], step=step), base)
        assert tiny.save_every == 4
        assert saved == [None] * 4 + [4] * 4 + [8] * 2
        assert not resume.exists()

    def test_a_saved_step_that_is_damaged_is_named(self, tiny, wheel, tmp_path):
        with pytest.raises(stages.Paused):
            stages.train(1, tiny, wheel, tmp_path, until=0.0)
        (step,) = tmp_path.glob("*/resume.pt")
        torch.save({}, step)
        with pytest.raises(
            ValueError, match=f"{step.name} cannot be resumed from .*; remove it to start this stage again"
        ):
            stages.train(1, tiny, wheel, tmp_path)

    def test_what_a_kill_left_half_written_is_gone_after_the_next_start(self, tiny, wheel, tmp_path):
        folder = stages.folder_of(1, job(tiny, wheel, tmp_path))
        folder.mkdir(parents=True)
        (folder / ".resume.pt.123").write_text("half")
        (folder / ".losses.csv.123").write_text("half")
        run = stages.train(1, tiny, wheel, tmp_path)
        assert sorted(p.name for p in run.folder.iterdir()) == ["losses.csv", "record.json", "weights.safetensors"]


class TestGiven:
    """Stages that were finished elsewhere, from their weights files."""

    def test_what_follows_is_as_if_it_had_been_trained_here(self, runs, tiny, wheel, tmp_path):
        out, by_stage = runs
        files = [by_stage[stage].folder / checkpoints.WEIGHTS for stage in (2, 3)]
        run = stages.train(4, tiny, wheel, tmp_path, given=files)
        assert [folder.name for folder in tmp_path.iterdir()] == [run.folder.name]  # nothing else was trained
        assert run.folder.name != by_stage[4].folder.name
        assert run.record["weights_sha256"] == by_stage[4].record["weights_sha256"]
        assert run.record["before"] == by_stage[4].record["before"]

    def test_a_published_file_tells_its_record_and_its_bits_name_the_folder(self, runs, tiny, wheel, tmp_path):
        whole, small = runs[1][1].folder / checkpoints.WEIGHTS, tmp_path / "stage1.safetensors"
        published.publish(whole, small)
        short = tiny.changed(stage2_steps=2)
        run = stages.train(2, short, wheel, tmp_path / "runs", given=[small])
        assert run.record["before"][0]["weights_sha256"] == runs[1][1].record["weights_sha256"]
        assert run.folder.name != stages.train(2, short, wheel, tmp_path / "runs", given=[whole]).folder.name

    def test_from_the_shell(self, runs, tmp_path, capsys):
        file = runs[1][1].folder / checkpoints.WEIGHTS
        with pytest.raises(SystemExit) as ended:
            cli.main([*words(tmp_path, "--from", str(file)), "--minutes", "0"])
        assert ended.value.code == 75
        assert "stage 2: generator and critic: paused" in capsys.readouterr().err
        assert [path.name.split("-")[1] for path in tmp_path.iterdir()] == ["stage2"]

    def test_cascade_plus_from_the_shell(self, tmp_path):
        with pytest.raises(SystemExit) as ended:
            cli.main(["train", "1", "--plus", *words(tmp_path)[2:], "--minutes", "0"])
        assert ended.value.code == 75
        (step,) = tmp_path.glob("*/resume.pt")
        assert "blocks.0.layers.0.weight" in torch.load(step, weights_only=True)["networks"]["generator"]

    def test_other_sizes_are_refused(self, runs, tiny, wheel, tmp_path):
        file = runs[1][1].folder / checkpoints.WEIGHTS
        with pytest.raises(ValueError, match=r"its generator_blocks is 1, and this training's is 2; set it as there"):
            stages.train(2, tiny.changed(generator_blocks=2), wheel, tmp_path, given=[file])
        assert not list(tmp_path.iterdir())

    def test_the_stage_itself_is_gone_on_with(self, runs, tiny, wheel, tmp_path):
        file, before = runs[1][1].folder / checkpoints.WEIGHTS, runs[1][1]
        slow = tiny.changed(stage1_steps=1, stage1_rate=1e-9)
        run = stages.train(1, slow, wheel, tmp_path, given=[file])
        old, new = (run.networks["generator"].encoder[0][0].weight for run in (before, run))
        torch.testing.assert_close(new, old, rtol=0, atol=1e-7)
        assert run.record["before"] == [before.record]
        assert run.folder.name != stages.train(1, slow, wheel, tmp_path).folder.name

    def test_a_whole_cascade_gives_the_network_that_no_other_file_gives(self, runs, tiny, wheel, tmp_path):
        stage2, whole = (runs[1][stage].folder / checkpoints.WEIGHTS for stage in (2, 4))
        job4 = replace(job(tiny, wheel, tmp_path), given={2: stage2, 4: whole})
        assert stages.origins(stages.STAGES[4], tiny, job4.given) == {"generator": 2, "deblur_denoise": 4}
        taken = stages.starting_networks(stages.STAGES[4], 4, job4)
        assert list(taken) == ["deblur_denoise"]
        torch.testing.assert_close(
            dict(taken["deblur_denoise"].named_parameters()),
            dict(runs[1][4].networks["deblur_denoise"].named_parameters()),
        )
        run = stages.train(4, tiny.changed(stage4_steps=1), wheel, tmp_path, given=[stage2, whole])
        assert [each["stage"] for each in run.record["before"]] == [2, 4]

    def test_sizes_of_a_network_that_is_not_taken_may_differ(self, runs, tiny, wheel, tmp_path):
        whole = runs[1][4].folder / checkpoints.WEIGHTS
        other = tiny.changed(generator_blocks=2, generator_fill="laplace", stage3_steps=1)
        assert stages.train(3, other, wheel, tmp_path, given=[whole]).record["before"][0]["stage"] == 4
        with pytest.raises(ValueError, match="its generator_blocks is 1, and this training's is 2"):
            stages.train(1, other, wheel, tmp_path, given=[whole])

    def test_a_generator_goes_on_with_larger_photos(self, runs, tiny, wheel, tmp_path):
        file, larger = runs[1][1].folder / checkpoints.WEIGHTS, tiny.changed(size=64, hole=20, stage1_steps=1)
        run = stages.train(1, larger, wheel, tmp_path, given=[file])
        assert checkpoints.read_about(run.folder / checkpoints.WEIGHTS)["settings"]["size"] == 64

    def test_going_on_with_a_file_that_lacks_the_critic(self, runs, tiny, wheel, tmp_path):
        whole = runs[1][4].folder / checkpoints.WEIGHTS
        hinge = tiny.changed(stage2_game="hinge", stage4_game="hinge")
        with pytest.raises(ValueError, match="holds no critic, which .* starts from: give a file of stage 2, too"):
            stages.train(4, hinge, wheel, tmp_path, given=[whole])

    def test_from_scratch_nothing_is_taken(self, runs, tiny):
        whole = {4: runs[1][4].folder / checkpoints.WEIGHTS}
        assert stages.origins(stages.STAGES[4], tiny.changed(stage4_start="scratch"), whole) == {}

    def test_several_stages_do_not_share_a_file_that_one_goes_on_with(self, runs, tmp_path, capsys):
        file = str(runs[1][1].folder / checkpoints.WEIGHTS)
        with pytest.raises(SystemExit):
            cli.main(["train", "1", "2", *words(tmp_path, "--from", file)[2:]])
        told = capsys.readouterr().err
        assert f"{file} is of stage 1: stage 1 goes on from it only by itself; ask for one stage at a time" in told
        assert not list(tmp_path.iterdir())

    def test_a_file_that_another_stage_starts_from_is_no_hindrance(self, runs, tiny):
        """Whatever the order in which the stages are asked for."""
        file = runs[1][3].folder / checkpoints.WEIGHTS
        for asked in ([2, 4], [4, 2]):
            stages.refuse_unused([file], asked, tiny)

    def test_a_file_that_nothing_starts_from_is_refused(self, runs, tmp_path, capsys):
        files = [str(runs[1][stage].folder / checkpoints.WEIGHTS) for stage in (1, 3)]
        given = [word for file in files for word in ("--from", file)]
        with pytest.raises(SystemExit):
            cli.main(["train", "2", *words(tmp_path, *given)[2:]])
        assert f"{files[1]} is of stage 3, from which none of the stages asked for" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_two_files_of_one_stage_are_refused(self, runs, tiny, wheel, tmp_path):
        file = runs[1][1].folder / checkpoints.WEIGHTS
        with pytest.raises(ValueError, match="is of stage 1, and so is .*: give one of them"):
            stages.train(2, tiny, wheel, tmp_path, given=[file, file])

    def test_a_file_without_a_record_is_refused(self, runs, tiny, wheel, tmp_path):
        file = tmp_path / "alone.safetensors"
        file.write_bytes((runs[1][1].folder / checkpoints.WEIGHTS).read_bytes())
        with pytest.raises(ValueError, match="alone.safetensors: no record tells what trained it"):
            stages.train(2, tiny, wheel, tmp_path, given=[file])

    def test_a_file_of_no_stage_is_refused(self, runs, tiny, wheel, tmp_path):
        about = checkpoints.read_about(runs[1][1].folder / checkpoints.WEIGHTS) | {"stage": "context_encoder"}
        file = tmp_path / "other.safetensors"
        checkpoints.save_weights(file, runs[1][1].networks, about)
        with pytest.raises(ValueError, match="other.safetensors is not of a stage of the cascade"):
            stages.train(2, tiny, wheel, tmp_path, given=[file])

    def test_a_network_that_is_not_there_is_told_before_the_first_step(self, runs, tiny, wheel, tmp_path):
        about = checkpoints.read_about(runs[1][2].folder / checkpoints.WEIGHTS)
        critic = {"critic": runs[1][2].networks["critic"]}
        checkpoints.finish(tmp_path / "run", critic, about, [{"step": 1.0}], {"stage": 2})
        with pytest.raises(ValueError, match="holds no generator, which stage 4: cascade starts from: train stage 2"):
            stages.train(4, tiny, wheel, tmp_path / "out", given=[tmp_path / "run" / checkpoints.WEIGHTS])


def test_first_weights_depend_on_the_networks_name_and_the_seed_alone(tiny, monkeypatch):
    """Another network, wherever it stands in the table, leaves those of the others as they were."""
    names = list(stages.BUILD)

    def weights(name, seed=0):
        return torch.cat([p.detach().flatten() for p in stages.build(name, tiny, seed).parameters()])

    before = {name: weights(name, seed) for name in names for seed in (3,)}
    monkeypatch.setattr(stages, "BUILD", {"new": stages.BUILD["critic"], **dict(reversed(stages.BUILD.items()))})
    for name in names:
        assert torch.equal(weights(name, 3), before[name]), name
        assert not torch.equal(weights(name, 4), before[name]), name
    assert not torch.equal(weights("new", 3), before["critic"])  # the same layers under another name


def test_a_rate_that_rises_to_the_end():
    assert [loop.rate_factor(step, 4, 1.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


class TestKilled:
    def test_a_run_killed_in_every_stage_ends_in_the_same_bits(self, runs, tmp_path):
        # Each process is a copy of one that has imported torch already.
        fork = multiprocessing.get_context("forkserver")
        fork.set_forkserver_preload(["cascade_lab.cli", "cascade_lab.training.stages"])
        for stage in stages.STAGES:
            process = fork.Process(target=in_a_process, args=[words(tmp_path)])
            process.start()
            deadline = time.monotonic() + 120
            while not list(tmp_path.glob(f"*-stage{stage}-*/resume.pt")):
                assert process.is_alive(), f"stage {stage} ended before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.kill()
            process.join()
            assert not list(tmp_path.glob(f"*-stage{stage}-*/record.json")), "killed too late to tell anything"
        process = fork.Process(target=in_a_process, args=[words(tmp_path)])
        process.start()
        process.join()
        assert process.exitcode == 0
        for run in runs[1].values():
            resumed = tmp_path / run.folder.name
            for name in ("weights.safetensors", "losses.csv"):
                assert (resumed / name).read_bytes() == (run.folder / name).read_bytes(), f"{run.folder.name}/{name}"

    def test_another_seed_gives_other_weights(self, runs, tiny, wheel, tmp_path):
        other = stages.train(1, tiny, wheel, tmp_path, seed=1)
        assert other.record["weights_sha256"] != runs[1][1].record["weights_sha256"]


class TestStage2:
    def test_the_critic_is_alive(self, runs):
        for point in runs[1][2].history:
            assert point["critic_gradient"] > 1e-4
            assert 0 < abs(point["distance"]) < 10

    def test_weights_are_clipped(self, runs, tiny):
        critic = runs[1][2].networks["critic"]
        assert max(p.abs().max().item() for p in critic.parameters()) <= tiny.critic_clip + 1e-8

    def test_a_dead_critic_stops_the_run(self, tiny, wheel, tmp_path):
        dead = profiles.read("smoke", {**SMALL, "critic_clip": 1e-9})
        with pytest.raises(TrainingError, match="stage 2: generator and critic, step 2: the critic is dead"):
            stages.train(2, dead, wheel, tmp_path)

    def test_perceptual_weights_are_looked_for_before_stage_1(self, wheel, tmp_path):
        absent = profiles.read("smoke", {**SMALL, "perceptual_weights": "nowhere.pth"})
        with pytest.raises(RuntimeError, match='No such file or directory: .nowhere.pth..*"random"'):
            stages.train(2, absent, wheel, tmp_path)
        assert not list(tmp_path.iterdir())


class TestStage4:
    def test_nothing_is_frozen(self, runs, tiny, wheel):
        """The generator's weights move, and the gradients that reach them are finite."""
        networks = {name: stages.build(name, tiny) for name in ("generator", "deblur_denoise")}
        for name, run in (("generator", runs[1][2]), ("deblur_denoise", runs[1][3])):
            networks[name].load_state_dict(run.networks[name].state_dict())
        before = {name: value.clone() for name, value in networks["generator"].named_parameters()}
        fabric = devices.fabric_for(tiny.precision, "cpu")
        t = stages.prepare(stages.STAGES[4], tiny, fabric, networks)
        photos = data.training_batches(wheel, 32, 4, 0, 0, 2)
        for step in range(2):
            steps.step_4(t, photos, devices.random_for("cpu", step))
        for name, value in networks["generator"].named_parameters():
            assert value.grad.isfinite().all(), name
            assert value.grad.abs().max() > 0, name
            assert not torch.equal(value, before[name]), name

    def test_starts_from_scratch_without_the_other_stages(self, wheel, tmp_path):
        scratch = profiles.read("smoke", {**SMALL, "stage4_start": "scratch", "stage4_steps": 2})
        stages.train(4, scratch, wheel, tmp_path)
        assert [path.name.split("-")[1] for path in tmp_path.iterdir()] == ["stage4"]

    def test_trains_the_generator_alone(self, wheel, tiny, runs):
        alone = profiles.read("smoke", {**SMALL, "stage4_networks": "generator", "stage4_steps": 2})
        assert stages.needed(4, alone) == [1, 2, 4]
        run = stages.train(4, alone, wheel, runs[0])
        assert set(run.networks) == {"generator"}

    @pytest.mark.parametrize("rule", ["reestimate", "freeze", "plain"])
    def test_batch_norm(self, rule, runs, wheel):
        """Measured anew, the statistics are those of the cascade's own inputs; plain, they lag behind."""
        out, by_stage = runs
        profile = profiles.read("smoke", {**SMALL, "stage4_batch_norm": rule, "stage4_steps": 3})
        run = stages.train(4, profile, wheel, out)
        counted = {
            int(v) for k, v in run.networks["deblur_denoise"].state_dict().items() if k.endswith("num_batches_tracked")
        }
        # measured on 3 batches; or 24 in stage 3 and 3 here
        assert counted == {"reestimate": {3}, "freeze": {3}, "plain": {27}}[rule]

    def test_statistics_are_the_plain_mean(self):
        norm = torch.nn.BatchNorm2d(2)
        batches = [torch.randn(8, 2, 4, 4) + i for i in range(4)]
        update_bn(iter(batches), norm)
        torch.testing.assert_close(norm.running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0))
        assert norm.momentum == 0.1


class TestStops:
    def test_not_a_number(self, wheel, tmp_path):
        wild = profiles.read("smoke", {**SMALL, "stage1_rate": 1e30})
        with pytest.raises(TrainingError, match=r"stage 1: generator, MSE, step \d+: mse not finite"):
            stages.train(1, wild, wheel, tmp_path)

    def test_too_few_photos_are_told_before_the_first_step(self, tmp_path, wheel):
        (tmp_path / "photos").mkdir()
        wheel[0].resize((40, 40)).save(tmp_path / "photos" / "one.png")
        few = data.open_photos(tmp_path / "photos", whole=True)
        with pytest.raises(ValueError, match="1 usable photos .* but a step takes 4"):
            stages.train(4, profiles.read("smoke", SMALL), few, tmp_path / "runs")
        assert not list((tmp_path / "runs").iterdir())

    def test_an_output_folder_that_cannot_be_written(self, tiny, wheel, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match="nothing can be written to the output folder .*file"):
            stages.train(1, tiny, wheel, tmp_path / "file")

    def test_an_unknown_stage(self, tiny, wheel, tmp_path):
        with pytest.raises(ValueError, match="unknown stage 5; the stages are 1, 2, 3, 4"):
            stages.train(5, tiny, wheel, tmp_path)


class TestCommand:
    def test_two_devices_train_one_cascade_and_do_not_go_on_with_the_run_of_one(self, tmp_path, capfd):
        """Each device takes a whole batch, so two of them are another training, in folders of their own."""
        changes = {"stage1_steps": 4, "stage2_steps": 2, "stage3_steps": 2, "stage4_steps": 4, "save_every": 2}
        short = words(tmp_path, *settings(changes))

        def train(*more: str) -> tuple[int, str, str]:
            command = [sys.executable, "-m", "cascade_lab", *short, "--devices", "2", *more]
            ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
            return ended.returncode, ended.stdout, ended.stderr

        with pytest.raises(SystemExit, match="75"):
            cli.main([*short, "--minutes", "0"])
        paused = "stage 1: generator, MSE: paused at step 2 of 4; the same command goes on"
        assert paused in capfd.readouterr().err
        code, _, said = train("--minutes", "0")
        assert (code, said.count("paused at step 2 of 4")) == (75, 1)  # not at step 4, and one of the two speaks
        code, output, said = train()
        assert code == 0, said
        assert output.count("stage 4: cascade: ") == 1  # one of the two speaks
        assert len(records := list(tmp_path.glob("*/record.json"))) == 4
        two = json.loads(next(path for path in records if "stage1" in path.parent.name).read_text())
        assert (two["ranks"], two["effective_batch"], two["devices"]) == (2, 8, "1 thread")
        one = stages.train(1, profiles.read("smoke", SMALL | changes), data.open_photos(None, "train"), tmp_path).record
        assert (one["ranks"], one["effective_batch"]) == (1, 4)
        assert one["weights_sha256"] != two["weights_sha256"]

    def test_two_nodes_leave_one_run(self, tmp_path):
        """Two commands on one machine that know their numbers and meet at a port of it."""
        changes = {"stage1_steps": 4, "stage1_batch": 2}
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "cascade_lab", "train", "1", "--device", "cpu", "--nodes", "2"]
        command += ["--out", str(tmp_path), *settings(SMALL | changes)]
        address = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        nodes = [
            subprocess.Popen(
                command,
                env={**os.environ, **address, "NODE_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        said = [node.communicate(timeout=300) for node in nodes]
        assert [node.returncode for node in nodes] == [0, 0], said
        (run,) = tmp_path.iterdir()
        record, history = json.loads((run / "record.json").read_text()), checkpoints.finished(run)[0]
        assert (record["ranks"], record["effective_batch"], len(history)) == (2, 4, 2)
        assert [output for output, _ in said] == [f"stage 1: generator, MSE: {run / 'weights.safetensors'}\n", ""]

    @pytest.mark.parametrize("devices", ["0", "-1"])
    def test_no_devices(self, devices, tmp_path, capsys):
        with pytest.raises(SystemExit) as stop:
            cli.main(["train", "1", "--devices", devices, "--out", str(tmp_path)])
        assert stop.value.code == 2
        assert "Invalid value for '--devices'" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["5"], "unknown stage 5; the stages are 1, 2, 3, 4, context_encoder"),
            (["one"], "unknown stage 'one'"),
            (["1", "--set", "hole=127"], "profile 'smoke': hole must be smaller than size (64), got 127"),
            (["1", "--set", "generator_widths=(4,4,4,4,True)"], "generator_widths must be five whole numbers"),
            (["1", "--out", "/proc/runs"], "nothing can be written to the output folder /proc/runs"),
            (["1", "--profile", "smal"], "unknown profile 'smal'; the profiles are smoke, cpu, gpu, paper"),
            (["1", "--photos", "nowhere"], "nowhere"),
            (["1", "--set", "stage1_steps"], "--set takes NAME=VALUE, got 'stage1_steps'"),
        ],
    )
    def test_errors_are_one_line(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as stop:
            cli.main(["train", *arguments])
        (line,) = capsys.readouterr().err.splitlines()
        assert stop.value.code == 1
        assert line.startswith("error: ")
        assert message in line

    def test_a_line_an_interval(self, capsys, tmp_path):
        begin = time.monotonic()
        with pytest.raises(SystemExit):
            cli.main(["train", "1", "--device", "cpu", "--out", str(tmp_path), *settings(SMALL)])
        seconds = time.monotonic() - begin
        out, err = capsys.readouterr()
        *lines, end = err.splitlines()  # the last at the end; before it, one in ten seconds at most
        assert len(lines) <= seconds / 10
        (last,) = out.splitlines()
        assert all(line.startswith("stage 1: generator, MSE: ") for line in [*lines, end])
        assert "24/24" in end
        assert "steps/s" in end or "s/ steps" in end
        assert last.endswith("weights.safetensors")
        assert checkpoints.finished(tmp_path / last.split("/")[-2])


EPOCH = 12  # photos in the shards


def two_steps(batch: int) -> dict:
    """Settings of two steps a stage."""
    each = {"steps": 2, "batch": batch}
    return {"log_every": 1} | {f"stage{n}_{key}": value for n in stages.STAGES for key, value in each.items()}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The folder of four stages trained by two ranks, and for each rank the photos that it then took from shards."""
    out, seen, shards = (tmp_path_factory.mktemp(name) for name in ("out", "seen", "shards"))
    photos = [Image.new("RGB", (40, 40), (brightness,) * 3) for brightness in range(EPOCH)]
    for number, photo in enumerate(photos):
        photo.save(seen / f"{number}.png")
    write_shards(shards, [(f"{i:02d}.png", (seen / f"{i}.png").read_bytes()) for i in range(EPOCH)], 3)
    epochs = {"stage1_steps": 2 * EPOCH // 4, "stage1_batch": 2}
    reads = ["train", "1", "--device", "cpu", "--out", str(shards / "runs"), "--photos", str(shards)]
    more = ["--devices", "2", "--", *reads, *settings(SMALL | epochs), "--devices", "2"]
    command = [sys.executable, two_ranks.__file__, str(seen), *words(out, *settings(two_steps(3)), *more)]
    ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return out, [list(map(int, (seen / rank).read_text().split())) for rank in "01"]


class TestTwoRanks:
    """Two processes that draw what one process with twice the batch draws, and then share shards."""

    @pytest.fixture
    def in_64_bits(self, monkeypatch):
        two_ranks.in_64_bits(monkeypatch.setattr)
        yield
        torch.set_default_dtype(torch.float32)

    def test_all_stages_equal_one_process_with_twice_the_batch(self, pair, in_64_bits, wheel, tmp_path):
        folders = {path.name.split("-")[1]: path for path in pair[0].iterdir()}
        whole = profiles.read("smoke", SMALL | two_steps(6))
        job = stages.Job(whole, wheel, tmp_path, 0, devices.fabric_for("auto", "cpu"))
        stages.train(4, whole, wheel, tmp_path, fabric=job.fabric)
        for number in stages.STAGES:
            one, two = stages.folder_of(number, job), folders[f"stage{number}"]
            (history, record), (curves, other) = checkpoints.finished(one), checkpoints.finished(two)
            assert (record["ranks"], other["ranks"]) == (1, 2)
            assert record["effective_batch"] == other["effective_batch"] == 6
            for point, same in zip(history, curves, strict=True):
                assert same == pytest.approx(point, rel=1e-9, abs=1e-12), two.name
            weights, expected = (checkpoints.read_weights(folder / checkpoints.WEIGHTS) for folder in (two, one))
            torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-10)

    def test_shards_are_shared_and_each_photo_comes_once_an_epoch(self, pair):
        ranks = pair[1]
        half = EPOCH // 2  # what each rank takes in an epoch: two of the four shards
        assert [len(rank) for rank in ranks] == [EPOCH] * 2
        for epoch in (slice(0, half), slice(half, None)):
            assert sorted(ranks[0][epoch] + ranks[1][epoch]) == list(range(EPOCH))


class TestNodes:
    def test_variables_that_are_not_set_are_named(self, monkeypatch, capsys, tmp_path):
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        for name in ("MASTER_PORT", "NODE_RANK"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(SystemExit, match="1"):
            cli.main(["train", "1", "--nodes", "2", "--out", str(tmp_path)])
        assert "error: --nodes 2: set MASTER_PORT, NODE_RANK." in capsys.readouterr().err

    @pytest.mark.parametrize("blind", [0, 1, 2])
    def test_a_folder_that_another_machine_does_not_see(self, blind, tmp_path):
        """With the answer of one process replaced by that of two, of which so many do not see the folder."""
        fabric = devices.fabric_for("32-true", "cpu")
        pair = SimpleNamespace(
            is_global_zero=True,
            world_size=2,
            device=fabric.device,
            barrier=fabric.barrier,
            all_reduce=lambda own, reduce_op: own + blind,
        )
        expected = pytest.raises(ValueError, match="1 of 2 processes do not see") if blind == 1 else nullcontext()
        with expected:
            nodes.check_folder(tmp_path / "out", pair)
        assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("count", "nodes"), [(0, 1), (-1, 1), (1, 0)])
def test_fewer_than_one_device(count, nodes):
    with pytest.raises(ValueError, match=f"at least one device and one node, got devices={count} and nodes={nodes}"):
        devices.fabric_for("auto", "cpu", count, nodes)


def test_random_numbers_by_words():
    """A name in a key stands for itself, wherever it is; numbers give what they always gave."""
    draw = [
        torch.rand(3, generator=devices.random_for("cpu", *key)) for key in ((1, "a"), (1, "a"), (1, "b"), ("a", 1))
    ]
    assert torch.equal(draw[0], draw[1])
    assert len({tuple(values.tolist()) for values in draw}) == 3
    assert devices.random_for("cpu", 3, 5).initial_seed() == 8044483855893346974
