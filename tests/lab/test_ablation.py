"""The arms of Table 2: what each changes, how they are trained, and what their differences say."""

import pytest
import torch
from tiny import TINY, job

from cascade_core.metrics import Interval, mean_interval
from cascade_lab import data
from cascade_lab.evaluation import ablation, evaluate
from cascade_lab.training import loop, profiles, stages

NAMES = ("intact", "no pre-training", "only GAN")


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
    """The paper's three arms on two seeds: (folder, results, lines that were reported)."""
    out, lines = tmp_path_factory.mktemp("runs"), []
    return out, ablation.run(tiny, wheel, crops, out, (0, 1), NAMES, report=lines.append), lines


class TestArms:
    @pytest.mark.parametrize("name", list(profiles.PROFILES))
    def test_are_valid_and_each_is_another_training(self, name, wheel, tmp_path):
        profile = profiles.read(name)
        arms = ablation.arms(profile)
        assert tuple(arms)[:3] == NAMES
        folders = {stages.folder_of(4, job(profile.changed(**changes), wheel, tmp_path)) for changes in arms.values()}
        assert len(folders) == len(arms)
        assert arms["intact"] == {}

    def test_the_generator_gets_as_many_steps_without_pre_training(self, tiny):
        scratch = tiny.changed(**ablation.arms(tiny)["no pre-training"])
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


class TestRun:
    def test_arms_share_the_stages_before_the_change(self, trained):
        out, _, _ = trained
        names = [path.name.split("-")[1] for path in out.iterdir()]
        assert sorted(names) == ["stage1"] * 2 + ["stage2"] * 2 + ["stage3"] * 2 + ["stage4"] * 6

    def test_values_records_and_lines(self, trained, crops):
        _, results, lines = trained
        assert list(results) == list(NAMES)
        for arm in results.values():
            assert [one["seed"] for one in arm["runs"]] == [0, 1]
            assert [one["record"]["seed"] for one in arm["runs"]] == [0, 1]
        assert ablation.values_of(results, "intact", "medium", "psnr_hole").shape == (2, len(crops))
        assert results["only GAN"]["changes"] == {"stage4_networks": "generator"}
        assert len(lines) == 6
        assert lines[-1] == "only GAN, seed 1 (6 of 6)"

    def test_measures_the_network_that_was_trained(self, trained, tiny, wheel, crops):
        out, results, _ = trained
        profile = tiny.changed(stage4_networks="generator")
        generator = stages.train(4, profile, wheel, out, 1).networks["generator"]
        protocol = evaluate.Protocol(32, 14, level="medium")
        value = evaluate.evaluate({"x": evaluate.network(generator)}, crops, protocol)["x"]["values"]["ssim_whole"]
        assert torch.equal(ablation.values_of(results, "only GAN", "medium", "ssim_whole")[1], value)

    def test_loads_what_is_trained(self, trained, tiny, wheel, crops, monkeypatch):
        out, results, _ = trained
        monkeypatch.setattr(loop, "run", None)  # would fail if anything were trained
        again = ablation.run(tiny, wheel, crops, out, [1], NAMES[:1], ["none"])
        value = ablation.values_of(again, "intact", "none", "psnr_hole")
        assert torch.equal(value[0], ablation.values_of(results, "intact", "none", "psnr_hole")[1])

    @pytest.mark.parametrize(
        ("seeds", "names", "message"), [([0, 0], None, "0, 0"), ([], None, "seeds"), ([0], ["x"], "x")]
    )
    def test_refuses(self, seeds, names, message, tiny, wheel, crops, tmp_path):
        with pytest.raises(ValueError, match=message):
            ablation.run(tiny, wheel, crops, tmp_path, seeds, names)
        assert not list(tmp_path.iterdir())


class TestDifferences:
    def test_are_taken_seed_by_seed(self, trained):
        _, results, _ = trained
        gap = ablation.difference(results, "only GAN", "none", "psnr_hole")
        of = [ablation.values_of(results, name, "none", "psnr_hole") for name in ("only GAN", "intact")]
        assert torch.equal(gap[1], of[0][1] - of[1][1])
        assert ablation.difference(results, "intact", "none", "psnr_hole").abs().max() == 0

    def test_refuse_other_seeds(self, trained):
        _, results, _ = trained
        fewer = {**results, "intact": {**results["intact"], "runs": results["intact"]["runs"][:1]}}
        with pytest.raises(ValueError, match="same seeds"):
            ablation.difference(fewer, "only GAN", "none", "psnr_hole")

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
    _, results, _ = trained
    table = ablation.table_2({"crop": results, "shrink": results}, "none", "ImageNet")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    by_name = {line[0]: line[1:] for line in lines[2:]}
    assert by_name["intact"][1] == ""
    assert by_name["intact"][4:] == ["", "18.08"]
    assert by_name["only GAN"][5:] == ["17.22<br>-0.86"]
    assert by_name["only GAN"][1] == by_name["only GAN"][4]
    assert by_name["no pre-training"][1].count("<br>[") == 1
    assert "paper" not in ablation.table_2({"crop": results}, "none")


class TestCommand:
    def arguments(self, out, runs, *more):
        changes = [text for name, value in TINY.items() for text in ("--set", f"{name}={value!r}")]
        return ["--out", str(out), "--runs", str(runs), *changes, *more]

    def test_writes_what_can_be_read(self, trained, tmp_path, capsys):
        runs, results, _ = trained
        out = tmp_path / "ablation.json"
        ablation.main(self.arguments(out, runs, "--mode", "grid", "--seeds", "0", "1", "--arms", "intact", "only GAN"))
        content = ablation.read(out)
        assert capsys.readouterr().out.splitlines()[-1] == f"written: {out}"
        assert content["seeds"] == [0, 1]
        assert content["profile"]["stage4_steps"] == 2
        assert len(content["images"]) == 18
        values = ablation.values_of(content["arms"], "only GAN", "none", "psnr_hole")
        expected = ablation.values_of(results, "only GAN", "none", "psnr_hole")
        torch.testing.assert_close(values[:, :3], expected, rtol=0, atol=1e-5)
        assert "only GAN" in ablation.table_2({"crop": content["arms"]}, "medium")

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--profile", "huge"], "huge"),
            (["--set", "stage4_stepps=3"], "did you mean stage4_steps"),
            (["--arms", "intactt"], "unknown arm 'intactt'"),
            (["--share", "0"], "share"),
            (["--test", "nowhere"], "nowhere"),
            (["--seeds", "1", "1"], "different"),
        ],
    )
    def test_says_in_a_line_what_is_wrong(self, more, message, tmp_path):
        out = tmp_path / "ablation.json"
        with pytest.raises(SystemExit, match=f"^error: .*{message}") as caught:
            ablation.main(self.arguments(out, tmp_path, *more))
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())

    def test_keeps_a_result_that_is_there(self, tmp_path):
        out = tmp_path / "ablation.json"
        out.write_text("mine")
        with pytest.raises(SystemExit, match="--force"):
            ablation.main(self.arguments(out, tmp_path))

    def test_reads_nothing_else(self, tmp_path):
        evaluate.write(tmp_path / "x.json", {"methods": {}})
        with pytest.raises(ValueError, match="no result of cascade_lab.evaluation.ablation"):
            ablation.read(tmp_path / "x.json")
