"""The variants of Table 2: what each changes, how they are trained, and what their differences say."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import TINY, job

from cascade_core.metrics import Interval, mean_interval
from cascade_lab import cli, data
from cascade_lab.evaluation import ablation, methods, records, tables
from cascade_lab.evaluation.evaluate import evaluate
from cascade_lab.evaluation.protocol import Protocol
from cascade_lab.training import loop, profiles, stages

NAMES = ("full model", "no pre-training", "only GAN")


@pytest.fixture(scope="module")
def tiny():
    return profiles.read("smoke", TINY)


@pytest.fixture(scope="module")
def wheel():
    return data.open_photos(None, "train")


@pytest.fixture(scope="module")
def crops():
    return data.test_crops(data.open_photos(None, "test"), 32, "grid")[:3]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny, wheel, crops):
    """The paper's three variants on two seeds: (folder, rows, trainings, lines that were reported)."""
    out, lines = tmp_path_factory.mktemp("runs"), []
    return out, *ablation.compare(tiny, wheel, crops, out, (0, 1), NAMES, report=lines.append), lines


class TestVariants:
    @pytest.mark.parametrize("name", list(profiles.PROFILES))
    def test_are_valid_and_each_is_another_training(self, name, wheel, tmp_path):
        profile = profiles.read(name)
        variants = ablation.variants(profile)
        assert tuple(variants)[:3] == NAMES
        folders = {
            stages.folder_of(4, job(profile.changed(**changes), wheel, tmp_path)) for changes in variants.values()
        }
        assert len(folders) == len(variants)
        assert variants["full model"] == {}

    def test_the_generator_gets_as_many_steps_without_pre_training(self, tiny):
        scratch = tiny.changed(**ablation.variants(tiny)["no pre-training"])
        assert stages.needed(4, scratch) == [4]
        assert scratch.stage4_steps == tiny.stage1_steps + tiny.stage2_steps + tiny.stage4_steps

    def test_shortened(self):
        profile = ablation.shortened(profiles.read("smoke", {"stage3_steps": 3, "stage4_norm_steps": 20}), 0.1)
        assert (profile.stage3_steps, profile.stage4_norm_steps) == (1, 10)
        assert profile.stage1_steps == round(0.1 * profiles.read("smoke").stage1_steps)

    @pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
    def test_refuses_a_share(self, share):
        with pytest.raises(ValueError, match="share"):
            ablation.shortened(profiles.read("smoke"), share)


class TestCompare:
    def test_variants_share_the_stages_before_the_change(self, trained):
        out, *_ = trained
        names = [path.name.split("-")[1] for path in out.iterdir()]
        assert sorted(names) == ["stage1"] * 2 + ["stage2"] * 2 + ["stage3"] * 2 + ["stage4"] * 6

    def test_rows_records_and_lines(self, trained, crops):
        _, rows, trainings, lines = trained
        assert list(rows["variant"].unique()) == list(trainings) == list(NAMES)
        for variant in NAMES:
            assert list(rows.loc[rows["variant"] == variant, "seed"].unique()) == [0, 1]
            assert [record["seed"] for record in trainings[variant].values()] == [0, 1]
        assert ablation.grid(rows, "full model", "medium", "psnr_hole").shape == (2, len(crops))
        assert trainings["only GAN"]["1"]["settings"]["stage4_networks"] == "generator"
        assert len(lines) == 6
        assert lines[-1] == "only GAN, seed 1 (6 of 6)"

    def test_measures_the_network_that_was_trained(self, trained, tiny, wheel, crops):
        out, rows, *_ = trained
        profile = tiny.changed(stage4_networks="generator")
        generator = stages.train(4, profile, wheel, out, 1).networks["generator"]
        protocol = Protocol(32, 14, level="medium")
        value = evaluate({"x": methods.from_network(generator)}, crops, protocol)["ssim_whole"]
        assert ablation.grid(rows, "only GAN", "medium", "ssim_whole").loc[1].tolist() == value.tolist()

    def test_loads_what_is_trained(self, trained, tiny, wheel, crops, monkeypatch):
        out, rows, *_ = trained
        monkeypatch.setattr(loop, "run", None)  # would fail if anything were trained
        again, _ = ablation.compare(tiny, wheel, crops, out, [1], NAMES[:1])
        value = ablation.grid(again, "full model", "none", "psnr_hole")
        assert value.loc[1].equals(ablation.grid(rows, "full model", "none", "psnr_hole").loc[1])

    @pytest.mark.parametrize(
        ("seeds", "names", "message"), [([0, 0], None, "0, 0"), ([], None, "seeds"), ([0], ["x"], "x")]
    )
    def test_refuses(self, seeds, names, message, tiny, wheel, crops, tmp_path):
        with pytest.raises(ValueError, match=message):
            ablation.compare(tiny, wheel, crops, tmp_path, seeds, names or ())
        assert not list(tmp_path.iterdir())


class TestDifferences:
    def test_are_taken_seed_by_seed(self, trained):
        _, rows, *_ = trained
        gap = ablation.difference(rows, "only GAN", "none", "psnr_hole")
        of = [ablation.grid(rows, name, "none", "psnr_hole") for name in ("only GAN", "full model")]
        assert gap.loc[1].equals(of[0].loc[1] - of[1].loc[1])
        assert ablation.difference(rows, "full model", "none", "psnr_hole").abs().max(axis=None) == 0

    def test_refuse_other_seeds(self, trained):
        _, rows, *_ = trained
        fewer = rows[(rows["variant"] != "full model") | (rows["seed"] == 0)]
        with pytest.raises(ValueError, match="same seeds"):
            ablation.difference(fewer, "only GAN", "none", "psnr_hole")

    def test_refuse_what_is_not_there_or_not_one_reading(self, trained):
        _, rows, *_ = trained
        with pytest.raises(ValueError, match="no 'only GUN' at level none; there are full model, no pre-training"):
            ablation.grid(rows, "only GUN", "none", "psnr_hole")
        with pytest.raises(ValueError, match="several rows for a seed and an image"):
            ablation.grid(pd.concat([rows, rows]), "only GAN", "none", "psnr_hole")

    def test_refuse_a_network_that_has_diverged(self, trained):
        _, rows, *_ = trained
        rows = rows.assign(mode="crop")
        rows.loc[(rows["variant"] == "only GAN") & (rows["image"] == 1), "psnr_hole"] = float("nan")
        with pytest.raises(ValueError, match="only GAN has diverged: psnr_hole is not a number for 2 of 6"):
            ablation.table_2(rows, "none")

    def test_interval_covers_both_seeds_and_images(self):
        rng = torch.Generator().manual_seed(0)
        images = torch.randn(1, 40, generator=rng).double()
        seeds = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
        alone = ablation.crossed_interval(images)
        both = ablation.crossed_interval(images + seeds)
        assert both.mean == pytest.approx(alone.mean)
        assert both.high - both.low > 3 * (alone.high - alone.low)
        assert seeds.min() - 0.5 < both.low < -0.5
        usual = mean_interval(images[0])  # with one seed, the interval over images
        assert (alone.low, alone.high) == pytest.approx((usual.low, usual.high), abs=0.05)

    def test_interval_takes_a_data_frame(self):
        values = torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
        assert ablation.crossed_interval(pd.DataFrame(values.numpy())) == ablation.crossed_interval(values)

    def test_interval_of_a_certain_difference_is_a_point(self):
        assert ablation.crossed_interval(torch.full((3, 5), 0.25)) == Interval(0.25, 0.25, 0.25, 15)

    @pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 0)])
    def test_interval_refuses(self, shape):
        with pytest.raises(ValueError, match="seeds, images"):
            ablation.crossed_interval(torch.zeros(shape))

    @pytest.mark.parametrize(
        ("interval", "words"),
        [
            ((-1.2, -1.5, -0.9), "holds"),
            ((-2.0, -2.5, -1.5), "same direction, larger"),
            ((-0.3, -0.5, -0.1), "same direction, smaller"),
            ((0.4, 0.2, 0.6), "the opposite"),
            ((-0.1, -0.4, 0.2), "cannot be told apart from no difference"),
            ((-0.1, float("nan"), float("nan")), "cannot be told apart from no difference"),
        ],
    )
    def test_verdict(self, interval, words):
        assert ablation.verdict(Interval(*interval, 10), -1.2) == words


def test_table_2_has_the_papers_numbers_beside(trained):
    _, rows, *_ = trained
    both = pd.concat([rows.assign(mode="crop"), rows.assign(mode="resize")])
    found = ablation.table_2(both, "none", "ImageNet")
    cells = tables.show(found).data
    by_name = {name: list(row) for name, row in zip(cells.index, cells.to_numpy(), strict=True)}
    assert by_name["full model"][1] == ""
    assert by_name["full model"][4:] == ["", "18.08"]
    assert by_name["only GAN"][5:] == ["17.22\n-0.86"]
    assert by_name["only GAN"][1] == by_name["only GAN"][4]
    assert by_name["no pre-training"][1].count("\n[") == 1
    mean = np.mean([v for v in ablation.grid(rows, "only GAN", "none", "psnr_hole").to_numpy()])
    assert found.loc["only GAN", "psnr_hole, crop"] == mean
    assert not any("paper" in column for column in ablation.table_2(both, "none"))


class TestCommand:
    def run(self, out, runs, *more):
        changes = [text for name, value in TINY.items() for text in ("--set", f"{name}={value!r}")]
        said = io.StringIO()
        with pytest.raises(SystemExit) as end, contextlib.redirect_stderr(said):
            cli.main(["ablate", "--out", str(out), "--runs", str(runs), *changes, *more])
        if end.value.code == cli.PAUSED:
            raise end.value
        if end.value.code:  # the line that the shell shows is the last
            raise SystemExit(said.getvalue().strip().splitlines()[-1]) from end.value

    def test_writes_what_can_be_read(self, trained, tmp_path, capsys):
        runs, expected, *_ = trained
        out = tmp_path / "results"
        names = ["--variants", "full model", "--variants", "only GAN"]
        self.run(out, runs, "--mode", "grid", "--seeds", "0", "--seeds", "1", *names)
        rows = records.read_table(out, "ablations")
        record = records.read_runs(out)["runs"][rows["run"][0]]
        assert capsys.readouterr().out.splitlines()[-1] == f"written: {out}"
        assert record["seeds"] == [0, 1]
        assert record["profile"]["stage4_steps"] == 2
        assert record["variants"] == {"full model": {}, "only GAN": {"stage4_networks": "generator"}}
        images = data.crop_names(data.open_photos(None, "test"), record["profile"]["size"], "grid")
        assert set(rows["image"]) == set(images)
        trainings = records.read_runs(out)["trainings"]
        assert trainings[record["trainings"]["only GAN"]["1"]]["seed"] == 1
        values = ablation.grid(rows, "only GAN", "none", "psnr_hole")
        wanted = ablation.grid(expected, "only GAN", "none", "psnr_hole")
        order = list(rows["image"].unique())[:3]
        np.testing.assert_allclose(values[order], wanted, rtol=0, atol=1e-5)
        assert "only GAN" in ablation.table_2(rows, "medium").index

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--profile", "huge"], "huge"),
            (["--set", "stage4_stepps=3"], "did you mean stage4_steps"),
            (["--variants", "full modell"], "unknown variant 'full modell'"),
            (["--share", "0"], "share"),
            (["--test", "nowhere"], "nowhere"),
            (["--test", ""], "--test is empty"),
            (["--photos", ""], "--photos is empty"),
            (["--seeds", "1", "--seeds", "1"], "different"),
            (["--mode", "shrink"], "unknown mode 'shrink'"),
            (["--out", "/proc/r"], "cannot be written"),
            (["--out", ""], "--out is empty"),
        ],
    )
    def test_says_in_a_line_what_is_wrong(self, more, message, tmp_path):
        with pytest.raises(SystemExit, match=f"^error: .*{message}") as caught:
            self.run(tmp_path / "results", tmp_path, *more)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())

    def test_refuses_a_test_photo_that_is_trained_on(self, tmp_path):
        for folder in ("train", "test"):
            (tmp_path / folder).mkdir()
            for name, photo in zip(("a", "b"), data.open_photos(None, "test"), strict=False):
                photo.save(tmp_path / folder / f"{name if folder == 'train' else name * 2}.png")
        folders = ["--photos", str(tmp_path / "train"), "--test", str(tmp_path / "test")]
        with pytest.raises(SystemExit, match="a.png of .*train is aa.png of .*test"):
            self.run(tmp_path / "results", tmp_path / "runs", *folders)
        assert not (tmp_path / "runs").exists()

    def test_keeps_a_result_that_is_there(self, trained, tmp_path, monkeypatch):
        runs, *_ = trained
        arguments = tmp_path / "results", runs, "--seeds", "0", "--variants", "full model"
        self.run(*arguments)
        monkeypatch.setattr(stages, "train", None)  # would fail if anything were trained
        with pytest.raises(SystemExit, match="variant full model already: --force"):
            self.run(*arguments)

    def test_stops_when_its_minutes_are_over_and_goes_on(self, tmp_path):
        with pytest.raises(SystemExit) as end:
            self.run(tmp_path / "results", tmp_path / "runs", "--seeds", "0", "--minutes", "0")
        assert end.value.code == cli.PAUSED
        assert not (tmp_path / "results").exists()
