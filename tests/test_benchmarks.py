"""What the benchmarks measure and record, at tiny sizes. Nothing is asserted about speed: others share the cores."""

import builtins
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from tiny import TINY

from benchmarks import __main__ as bench
from benchmarks import (
    book,
    card,
    choices,
    degradations,
    features,
    metrics,
    perception,
    reference,
    restoring,
    rounds,
    training,
)
from cascade_core.fills import laplace
from cascade_core.losses import PerceptualLoss
from cascade_core.metrics import composite
from cascade_lab import data, published
from cascade_lab.evaluation import records
from cascade_lab.evaluation.methods import without_training
from cascade_lab.evaluation.protocol import Protocol, degraded_images
from cascade_lab.training import profiles

KEYS = {"task", "way", "seconds", "ours_is_times_as_fast"}


class Doubled(PerceptualLoss):
    """Features of twice the size."""

    def maps(self, *args):
        return [2 * each for each in super().maps(*args)]


def tiny(precision: str = "auto") -> profiles.Profile:
    return profiles.read("smoke", {**TINY, "precision": precision})


@pytest.fixture
def without_peers(monkeypatch):
    """As where no other library is installed."""
    installed = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] in ("deepinv", "kornia", "torchmetrics"):
            raise ImportError(name)
        return installed(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


class TestRounds:
    def test_contestants_take_turns(self):
        order = []
        runs = {name: lambda name=name: order.append(name) for name in ("a", "b")}
        seconds = rounds.take_turns(runs, rounds=2, warm_up=1)
        assert order == ["a", "b"] * 3
        assert set(seconds) == {"a", "b"}

    def test_the_median_counts_and_warming_up_does_not(self, monkeypatch):
        times = iter([0, 100, 101, 101, 103, 103, 112])  # after warming up: 1, 2 and 9 s
        monkeypatch.setattr(rounds, "time", SimpleNamespace(perf_counter=lambda: next(times)))
        assert rounds.take_turns({"a": lambda: None}, rounds=3, warm_up=1) == {"a": 2}


class TestTraining:
    def test_rows(self):
        rows = training.measure(profile=tiny(), rounds=1)
        assert [(row["task"], row["way"]) for row in rows] == [
            (f"stage {stage}", way) for stage in (1, 2, 3, 4) for way in ("ours", "plain")
        ]
        for row in rows:
            assert row.keys() == KEYS | {"profile", "batch", "share_of_peak"}
            assert row["seconds"] > 0
            assert (row["share_of_peak"] is None) == (row["way"] == "plain")

    def test_operations_counted_by_hand(self):
        """Of stage 1, which has the generator alone: 32 px, 4 channels in every layer, one block, 2 photos."""
        taps = 4 * 4 * 4  # of a kernel of 4 x 4 over 4 channels, or to 4
        encoder = [taps // 4 * 3 * 4 * 16**2, *(taps * 4 * side**2 for side in (8, 4, 2, 1))]
        block = [9 * 4 * 4 * 1**2] * 2
        decoder = [*(taps * 4 * side**2 for side in (1, 2, 4, 8)), taps * 3 * 16**2]  # a kernel for each pixel below
        forward = sum([*encoder, *block, *decoder])
        multiply_adds = 3 * forward - encoder[0]  # the photo needs no gradient
        assert training.operations(training.ours(1, tiny("32-true"), "cpu")) == 2 * 2 * multiply_adds

    @pytest.mark.parametrize("stage", [1, 2])
    def test_both_ways_train_the_same(self, stage):
        """Stages without chance: in 32 bits the losses agree for as many steps as the pool has batches."""
        profile = tiny("32-true")
        one, two = training.ours(stage, profile, "cpu"), training.plain(stage, profile, "cpu")
        for _ in range(training.POOL // (profile.critic_steps + 1)):
            losses = one()
            if stage == 2:
                weights = {name: getattr(profile, f"{name}_weight") for name in ("mse", "perceptual", "adversarial")}
                losses["mse"] = sum(weight * losses[name] for name, weight in weights.items())
            assert two() == pytest.approx(losses["mse"].item(), rel=1e-3)

    @pytest.mark.parametrize("stage", [3, 4])
    def test_the_data_set_degrades_each_photo(self, stage):
        profile = tiny()
        side = profile.stage3_patch if stage == 3 else profile.size
        for photo, degraded in (training.DegradedPhotos(stage, profile)[i] for i in range(3)):
            assert photo.shape == degraded.shape == (3, side, side)
            assert (photo != degraded).any()


class TestPeers:
    def test_blur_is_the_same_convolution(self):
        pytest.importorskip("deepinv")
        runs = degradations.contestants("cpu")
        ours, theirs = runs["blur", "ours"](), runs["blur", "deepinv"]()
        assert (ours - theirs).abs().max() < 1e-5

    def test_ssim_agrees_with_scikit_image(self):
        row = metrics.measure(n=3, rounds=1)[0]
        assert row["way"] == "ours"
        assert row["difference"] < 1e-6

    def test_what_is_not_installed_is_named(self, without_peers):
        blur = {row["way"]: row for row in degradations.measure(rounds=1) if row["task"] == "blur"}
        ssim = {row["way"]: row for row in metrics.measure(n=3, rounds=1)}
        batch = {row["way"]: row for row in restoring.measure(rounds=1, side=16, photos={})}
        for rows, peers in ((blur, ["deepinv", "kornia"]), (ssim, ["torchmetrics", "kornia"])):
            for peer in peers:
                assert rows[peer]["seconds"] is rows[peer]["ours_is_times_as_fast"] is None
            assert rows["ours"]["seconds"] > 0
        assert batch["deepinv's DnCNN"]["seconds"] is None
        assert "images_per_second" in batch["ours"]


class TestRestoring:
    def test_ours_gives_what_the_network_gives(self):
        found = restoring.contestants("cpu", 32)
        with torch.no_grad():
            quick, slow = (found[way][0]() for way in ("ours", "ours, as it comes"))
        assert (quick - slow).square().mean().sqrt() < 0.5 / 255

    def test_rows_and_memory(self):
        rows = restoring.measure(rounds=1, side=16, photos={"small": (40, 50)})
        assert all(row.keys() >= KEYS for row in rows)
        peers = {row["way"]: row for row in rows}
        assert peers["small"]["photo"] == 40 * 50 * 3
        if sys.platform == "linux":
            assert peers["small"]["peak_memory"] > peers["small"]["photo"]

    def test_the_ratio_is_that_of_equal_work(self, monkeypatch):
        monkeypatch.setattr(restoring, "take_turns", lambda runs, *_: {name: 2.0 for name, run in runs.items() if run})
        monkeypatch.setattr(restoring, "contestants", lambda *_: {"ours": (len, 100), "other": (len, 400)})
        other = restoring.measure(photos={})[1]
        assert other["ours_is_times_as_fast"] == 0.25  # in the same time it does four times the work


class TestBook:
    def test_a_build_that_fails_is_no_measurement(self, tmp_path):
        (tmp_path / "book" / "tools").mkdir(parents=True)
        (tmp_path / "book" / "tools" / "build.py").write_text("raise SystemExit(1)")
        with pytest.raises(subprocess.CalledProcessError):
            book.build(tmp_path, (), "smoke")


class TestChoices:
    @pytest.mark.parametrize(("stage", "side"), [(1, 128), (3, 64)])
    def test_options_see_as_many_pixels(self, stage, side):
        for changes in choices.OPTIONS[stage].values():
            profile = profiles.read("cpu", changes)
            batch, own = (profile.stage1_batch, side) if stage == 1 else (profile.stage3_batch, profile.stage3_patch)
            assert choices.steps_of(stage, profile) * batch * own**2 == choices.CROPS * side**2

    def test_a_choice_of_stage_3(self, tmp_path, monkeypatch):
        monkeypatch.setattr(choices, "CROPS", 16)
        photos, held_out = (data.open_photos(None, split) for split in ("train", "test"))
        untouched = choices.restored(without_training()[0]["input"], held_out, profiles.read("cpu", {}))
        found = choices.measure(3, {"deblur_denoise_width": 2}, choices.restored, photos, held_out, tmp_path)
        for row, before in zip(found, untouched, strict=True):
            assert row["steps"] == 1
            assert row.keys() == {"steps", "seconds", *before}
            assert [row[key] for key in ("level", "metric")] == [before[key] for key in ("level", "metric")]
        assert [row["level"] for row in untouched] == ["low", "medium", "high"]
        low, medium, high = (row["value"] for row in untouched)
        assert low > medium > high > 10

    def test_a_choice_of_stage_2(self, tmp_path):
        small = {**TINY, "size": 64, "hole": 28, "perceptual_weights": "random"}
        changes = choices.OPTIONS[2]["clipped at 0.03"] | small
        photos, held_out = (data.open_photos(None, split) for split in ("train", "test"))
        rows = {
            (row["metric"], row["mode"]): row
            for row in choices.measure(2, changes, choices.played, photos, held_out, tmp_path)
        }
        assert {row["steps"] for row in rows.values()} == {2}
        profile = profiles.read("cpu", changes)
        nothing = choices.played(without_training()[0]["mean"], held_out, profile)
        assert [row["value"] for row in nothing if row["metric"] == "detail_share"] == [0, 0]
        assert rows.keys() == {
            *((row["metric"], row["mode"]) for row in nothing),
            *((name, "") for name in choices.CURVES),
        }
        assert rows["critic_gradient", ""]["value"] > 0


class TestFeatures:
    def test_the_four_terms_are_those_of_the_loss(self):
        crops = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        loss, protocol = PerceptualLoss("random"), Protocol(32, 14, "resize")
        rows = features.measure(loss, crops, protocol)
        degraded = degraded_images(crops, protocol)
        filled = composite(laplace(degraded.images, degraded.masks), crops, degraded.masks)
        assert sum(row["distance"] for row in rows) / 4 == pytest.approx(loss(filled, crops).item())
        doubled = features.measure(Doubled("random"), crops, protocol)
        for row, other in zip(rows, doubled, strict=True):
            assert row["mean_square"] > row["distance"] > 0
            assert [other[key] / row[key] for key in ("mean_square", "distance")] == pytest.approx([4, 4])

    def test_a_record_of_some_weights(self, tmp_path, monkeypatch):
        monkeypatch.setattr("sys.argv", ["features", "--weights", "random", "--out", str(tmp_path)])
        features.main()
        table = records.read_table(tmp_path, "features")
        assert list(table["layer"]) == list(features.LAYERS)
        assert set(table["weights"]) == {"random"}
        with pytest.raises(SystemExit, match="holds results of weights random already"):
            features.main()


class TestPerception:
    @pytest.fixture
    def images(self):
        crops = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        chosen = {name: without_training()[0][name] for name in ("mean", "laplace")}
        return perception.filled(chosen, crops, Protocol(32, 14))

    def test_of_the_true_photos_all_is_perfect(self, images):
        rows = pd.DataFrame(perception.measures(images, Protocol(32, 14), PerceptualLoss("random")))
        assert set(rows["method"]) == {"photo", "mean", "laplace"}
        found = rows[rows["measure"] != "spectrum"].pivot(index="method", columns="measure", values="value")
        assert found.loc["photo"].to_dict() == {"psnr_hole": float("inf"), "detail_share": 1, "feature_distance": 0}
        assert found.loc["mean", "detail_share"] == pytest.approx(0, abs=1e-9)
        assert 0 < found.loc["laplace", "detail_share"] < 1
        assert 5 < found.loc["laplace", "psnr_hole"] < 15
        spectrum = rows[rows["measure"] == "spectrum"].pivot(index="frequency", columns="method", values="value")
        assert list(spectrum.index) == list(range(7))
        assert (spectrum["photo"] > spectrum["laplace"]).all()

    def test_the_bias_of_the_frechet_distance_is_that_of_two_halves(self):
        crops = torch.rand(
            40, 3, 32, 32, generator=torch.Generator().manual_seed(0)
        )  # 16 samples each, of 256 features
        chosen = {name: without_training()[0][name] for name in ("mean", "laplace")}
        images = perception.filled(chosen, crops, Protocol(32, 14))
        rows = perception.measures(images, Protocol(32, 14), PerceptualLoss("random"))
        found = {row["method"]: row["value"] for row in rows if row["measure"] == "frechet_distance"}
        samples = perception.perception.patch_features(PerceptualLoss("random"), crops[..., 5:27, 5:27])
        samples = samples / samples.square().mean().sqrt()
        assert found["photo"] == pytest.approx(perception.perception.frechet_distance(samples[:320], samples[320:]))
        assert min(found["laplace"], found["mean"]) > 0

    def test_lpips_sees_the_hole_and_its_rim_from_minus_1_to_1(self, images):
        def lpips(a, b):
            assert a.shape == b.shape == (6, 3, 22, 22)
            assert a.min() < -0.9
            return (a - b).abs().mean((1, 2, 3))

        rows = perception.measures(images, Protocol(32, 14), PerceptualLoss("random"), lpips)
        found = {row["method"]: row["value"] for row in rows if row["measure"] == "lpips"}
        assert found["photo"] == 0 < min(found["laplace"], found["mean"])

    def test_who_is_told_from_whom(self, images, monkeypatch):
        asked = []
        monkeypatch.setattr(perception.perception, "told_apart", lambda train, test: asked.append((train, test)) or 0.5)
        monkeypatch.setattr(perception, "PAIRS", [("laplace", "mean"), ("laplace", "cascade")])
        rows = list(perception.told_apart(images, images, Protocol(32, 14)))
        wanted = [("laplace", "mean"), ("laplace", "photo"), ("mean", "photo")]
        assert [(row["method"], row["other"]) for row in rows] == wanted
        assert {fills.shape for sides in asked for side in sides for fills in side} == {(6, 3, 22, 22)}

    def test_a_record(self, tmp_path, monkeypatch, capsys):
        """On photos of the wheel in place of the three sets, with tiny settings."""
        for split, folder in (("train", "train"), ("test", "bsd300"), ("test", "imagenet")):
            (tmp_path / folder).mkdir()
            for name, photo in list(data.open_photos(None, split).items())[:2]:
                photo.resize((160, 140)).save(tmp_path / folder / f"{name.split('.')[0]}.png")
        monkeypatch.setattr(perception, "MODES", ("crop",))
        monkeypatch.setattr(perception.perception, "told_apart", lambda train, test: 0.5)
        words = ["perception", str(tmp_path), "--vgg", "random", "--methods", "laplace", "--out", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", words)
        perception.main()
        table = records.read_table(tmp_path / "out", "perception")
        assert set(table["data_set"]) == {"BSD300", "ImageNet"}
        assert {"photo", "laplace", "cascade", "cascade+"} <= set(table["method"])
        record = records.read_runs(tmp_path / "out")["runs"][table["run"][0]]
        assert record["lpips"] == ("no LPIPS" not in capsys.readouterr().out)


class TestRecord:
    def test_keeps_what_did_not_run_now(self, tmp_path, monkeypatch, capsys):
        rows = [{"task": "t", "way": "ours", "seconds": 1.0, "ours_is_times_as_fast": 1.0}]
        monkeypatch.setattr(bench, "BENCHMARKS", {"a": lambda device: rows, "b": lambda device: rows})
        bench.main(["b", "--device", "cpu", "--out", str(tmp_path)])
        first = records.read_table(tmp_path, "benchmarks")
        assert list(first["benchmark"]) == ["b"]
        bench.main(["a", "--device", "cpu", "--out", str(tmp_path)])
        both = records.read_table(tmp_path, "benchmarks")
        assert list(both["benchmark"]) == ["b", "a"]
        assert both.iloc[0].equals(first.iloc[0])
        assert both.loc[1, list(rows[0])].to_dict() == rows[0]
        record = records.read_runs(tmp_path)["runs"][both.loc[1, "run"]]
        known = {"device", "devices", "precision", "versions", "commit", "date", "command"}
        assert record.keys() == {"kind", "benchmark", "seconds"} | known
        bench.main(["a", "--device", "cpu", "--out", str(tmp_path)])
        assert len(records.read_table(tmp_path, "benchmarks")) == 2


class TestReference:
    def test_what_stands_in_a_table_is_passed_over(self, tmp_path, monkeypatch):
        monkeypatch.setattr(reference, "RESULTS", published.folder())
        crop = {"data_set": "BSD300", "mode": "crop"}
        assert reference.recorded("evaluations", "method", reference.TRAINED, {**crop, "level": "none"})
        assert reference.recorded("evaluations", "method", reference.CHAINS, {**crop, "level": "high"})
        assert not reference.recorded("evaluations", "method", reference.TRAINED, {**crop, "level": "high"})
        assert reference.recorded("ablations", "variant", ["full model", "cascade+"], crop)
        monkeypatch.setattr(reference, "RESULTS", tmp_path)
        assert not reference.recorded("evaluations", "method", reference.TRAINED, crop)


class TestCard:
    def test_is_made_of_the_records(self):
        """The card in results/ is the one that the records make."""
        text = (published.folder() / "WEIGHTS.md").read_text()
        for name in [*published.NAMES, *published.STAGES]:
            assert "\n".join(card.section(name)) in text


class TestCommand:
    def test_an_unknown_name_is_refused(self, capsys):
        with pytest.raises(SystemExit):
            bench.main(["bokk"])
        assert "there are metrics" in capsys.readouterr().err
