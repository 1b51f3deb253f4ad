"""The tables' code: methods, protocols, results, and the command that writes them."""

import json
import sys

import pytest
import torch
from PIL import Image

from cascade_core import metrics
from cascade_core.degradations import HOLE_COLOR
from cascade_core.models import Cascade
from cascade_lab import data
from cascade_lab.baselines import INPAINTERS, laplace
from cascade_lab.baselines.context_encoder import context_encoder
from cascade_lab.evaluation import evaluate
from cascade_lab.evaluation.evaluate import Protocol
from cascade_lab.training import checkpoints, profiles, stages

SMALL = Protocol(64, 28, "crop")
SIZES = stages.sizes(
    profiles.read("smoke", {"generator_widths": (4,) * 5, "generator_blocks": 1, "deblur_denoise_width": 4})
)


@pytest.fixture
def weights(tmp_path):
    """Files as the stages leave them: 2 (generator and critic), 3 (refiner), 4 (generator and refiner), and another."""
    paths = {}
    stages_of = {2: ("generator", "critic"), 3: ("deblur_denoise",), 4: ("generator", "deblur_denoise")}
    stages_of["ce"] = ("context_encoder", "discriminator")
    for stage, names in stages_of.items():
        networks = {name: stages.build(name, SIZES, seed=len(paths)) for name in names}
        paths[stage] = tmp_path / f"stage{stage}" / "weights.safetensors"
        checkpoints.save_weights(paths[stage], networks, {"stage": stage, "settings": SIZES})
    return paths


@pytest.fixture
def folder(tmp_path, photos):
    """A folder of three photos, and one that is none."""
    path = tmp_path / "photos"
    path.mkdir()
    for i, pixels in enumerate((photos[:3] * 255).byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(path / f"{i}.png")
    return path


class TestProtocol:
    @pytest.mark.parametrize("values", [{"level": "heavy"}, {"hole": 128}, {"hole": 0}])
    def test_refuses(self, values):
        with pytest.raises(ValueError, match=str(next(iter(values.values())))):
            Protocol(**values)

    def test_the_hole_alone(self, photos):
        spoiled = evaluate.spoil(photos, SMALL)
        known = (spoiled.masks == 0).expand_as(photos)
        assert spoiled.masks.sum((1, 2, 3)).tolist() == [28**2] * 4
        assert torch.equal(spoiled.images[known], photos[known])
        torch.testing.assert_close(spoiled.images[:, :, 32, 32], torch.tensor([HOLE_COLOR] * 4))

    def test_a_seed_gives_one_set(self, photos):
        first, again, other = (evaluate.spoil(photos, Protocol(64, 28, level="high", seed=s)).images for s in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


class TestMethods:
    def test_a_missing_package_is_told_and_the_rest_runs(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        usable, missing = evaluate.available()
        assert "pip install" in missing["telea"]
        assert {"input", "mean", "laplace", "biharmonic"} <= set(usable)
        assert set(usable) | set(missing) == {"input", *INPAINTERS}

    def test_in_batches_as_at_once(self, photos):
        spoiled = evaluate.spoil(photos, SMALL)
        method = evaluate.inpainter(laplace)
        assert torch.equal(evaluate.restored(method, spoiled, batch=3), laplace(spoiled.images, spoiled.masks))

    def test_of_weights(self, weights, photos):
        spoiled = evaluate.spoil(photos, SMALL)
        methods = evaluate.of_weights(*weights.values())
        assert set(methods) == {"inpainted", "cascade", "generator", "deblur_denoise", "separate", "context encoder"}
        joint = Cascade(**stages.load(weights[4])).eval()
        alone = {"generator": stages.load(weights[2])["generator"], **stages.load(weights[3])}
        with torch.no_grad():
            inpainted, restored = joint(spoiled.images)
            expected = {
                "inpainted": inpainted,
                "cascade": restored,
                "generator": alone["generator"](spoiled.images),
                "deblur_denoise": alone["deblur_denoise"](spoiled.images),
                "separate": Cascade(**alone).eval()(spoiled.images).restored,
                "context encoder": context_encoder(stages.load(weights["ce"])["context_encoder"])(*spoiled[:2]),
            }
        for name, method in methods.items():
            torch.testing.assert_close(method(spoiled), expected[name])

    def test_of_weights_refuses_the_same_network_twice(self, weights):
        with pytest.raises(ValueError, match="generator"):
            evaluate.of_weights(weights[2], weights[2])

    def test_k_nearest_finds_a_photo_that_it_knows(self, photos):
        spoiled = evaluate.spoil(photos, SMALL)
        found = evaluate.k_nearest(photos[:1])(spoiled)
        torch.testing.assert_close(found[0], photos[0])  # the one neighbor there is

    def test_tuned_chain_is_better_than_its_fill(self, photos):
        protocol = Protocol(64, 28, level="medium")
        crops = next(iter(data.training_batches(data.open_photos(None, "train"), 64, 4, 0, 0, 1)))
        method, steps = evaluate.tuned_chain(crops, protocol)
        assert steps[0] == "laplace"
        assert len(steps) == 3
        fills = {"chain": method, "laplace": evaluate.inpainter(laplace)}
        psnr = {name: r["values"]["psnr_whole"] for name, r in evaluate.evaluate(fills, photos, protocol).items()}
        assert (psnr["chain"] > psnr["laplace"] + 1).all()

    def test_blind_chain_is_told_nothing(self, photos):
        protocol = Protocol(64, 28, level="medium")
        crops = next(iter(data.training_batches(data.open_photos(None, "train"), 64, 4, 0, 0, 1)))
        blind, _ = evaluate.tuned_chain(crops, protocol, told=False)
        spoiled = evaluate.spoil(photos, protocol)
        wrong = spoiled._replace(kernels=torch.ones_like(spoiled.kernels), sigma=torch.zeros_like(spoiled.sigma))
        output = blind(spoiled)
        assert torch.equal(output, blind(wrong))
        gained = metrics.psnr(output, photos) - metrics.psnr(laplace(spoiled.images, spoiled.masks), photos)
        assert gained.mean() > 1

    def test_blind_chain_without_its_package(self, photos, monkeypatch):
        monkeypatch.setitem(sys.modules, "pywt", None)
        with pytest.raises(ImportError, match="pywt"):
            evaluate.tuned_chain(photos[:2], Protocol(64, 28, level="medium"), told=False)

    def test_tuned_chain_without_a_package(self, photos, monkeypatch):
        monkeypatch.setitem(sys.modules, "pywt", None)
        _, steps = evaluate.tuned_chain(photos[:2], Protocol(64, 28, level="high"))
        assert len(steps) > 1
        assert not any("wavelets" in step for step in steps)


def test_evaluate_measures_each_method_on_the_same_images(photos):
    methods = {"laplace": evaluate.inpainter(laplace), "input": lambda spoiled: spoiled.images}
    results = evaluate.evaluate(methods, photos, SMALL)
    spoiled = evaluate.spoil(photos, SMALL)
    expected = metrics.measure(laplace(spoiled.images, spoiled.masks), photos, spoiled.masks)
    assert list(results) == list(methods)
    for metric, values in expected.items():
        assert torch.equal(results["laplace"]["values"][metric], values)
    assert results["input"]["values"]["psnr_context"].isinf().all()
    assert results["laplace"]["seconds_per_image"] > 0


def test_evaluate_tells_how_far_it_is(photos):
    done = []
    evaluate.evaluate({"input": lambda spoiled: spoiled.images}, photos.repeat(20, 1, 1, 1)[:70], SMALL, done.append)
    assert done == [50, 70]


class TestPaper:
    def test_both_tables_have_the_same_last_row(self):
        tables = evaluate.paper()
        for data_set in ("ImageNet", "BSD300"):
            for metric in ("psnr", "ssim"):
                one, two = (tables[f"table {i}"][data_set][metric] for i in (1, 2))
                assert one["cascade"] == two["intact"]

    def test_the_text_rounds_the_table(self):
        tables = evaluate.paper()
        for data_set in ("ImageNet", "BSD300"):
            psnr = tables["table 2"][data_set]["psnr"]
            for arm, drop in tables["section 4.3"][data_set]["psnr"].items():
                assert psnr[arm] - psnr["intact"] == pytest.approx(drop, abs=0.07)

    def test_table_1(self):
        values = {"psnr_hole": torch.tensor([17.0, 19.0]), "ssim_whole": torch.tensor([0.8, 0.9])}
        values["ssim_whole_composited"] = values["ssim_whole"]
        table = evaluate.table_1(
            {"crop": {"laplace": values, "cascade": values}, "shrink": {"laplace": values}}, "BSD300"
        )
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        by_name = {line[0]: line[1:] for line in lines[2:]}
        assert lines[0][1] == "PSNR hole, crop"
        assert by_name["laplace"][0] == by_name["laplace"][3] == "18.00<br>[17.00,\N{NO-BREAK SPACE}19.00]"
        assert by_name["laplace"][-1] == ""
        assert by_name["cascade"][3:] == ["", "", "18.41<br>0.855"]
        assert by_name["context encoder, not run"] == [""] * 5 + ["18.09<br>0.844"]
        assert "paper" not in evaluate.table_1({"crop": {"laplace": values}})


def test_table_3():
    keys = ("psnr_hole", "psnr_context", "psnr_whole", "ssim_whole")
    values = {key: torch.full((2,), 0.5 + i) for i, key in enumerate(keys)}
    lines = evaluate.table_3({"crop": {"input": values}, "shrink": {"input": values}}).splitlines()
    assert lines[0].count("crop") == 4
    assert lines[0].count("shrink") == 2
    cells = [cell.split("<br>")[0].strip() for cell in lines[2].split("|")[2:-1]]
    assert cells == ["0.50", "1.50", "2.50", "3.500", "0.50", "2.50"]


class TestResults:
    CONTENT = {"name": "made", "protocol": vars(Protocol()), "images": ["a", "b"]}

    def result(self, **changes):
        values = {"psnr_hole": torch.tensor([1.5, float("inf")], dtype=torch.float64)}
        return {**self.CONTENT, "methods": {"laplace": {"values": values}}, **changes}

    def test_come_back_as_they_were(self, tmp_path):
        path = tmp_path / "deep" / "r.json"
        evaluate.write(path, self.result())
        assert evaluate.read(path)["methods"]["laplace"]["values"] == {"psnr_hole": [1.5, float("inf")]}
        assert '"images": ["a", "b"]' in path.read_text()

    @pytest.mark.parametrize("text", [None, "", "[]", '{"methods": 3}', '{"arms": {}}'])
    def test_what_is_no_result_is_refused(self, text, tmp_path):
        path = tmp_path / "r.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ValueError, match="r.json is no result"):
            evaluate.read(path)

    def test_recorded(self, tmp_path):
        shrunk, other = vars(Protocol(mode="shrink")), vars(Protocol(hole=64))
        evaluate.write(tmp_path / "evaluation-1.json", self.result())
        evaluate.write(tmp_path / "evaluation-2.json", self.result(protocol=shrunk))
        evaluate.write(tmp_path / "evaluation-3.json", self.result(protocol=other, images=["c"]))
        evaluate.write(tmp_path / "unrelated.json", self.result(name="x"))
        found = evaluate.recorded(tmp_path, Protocol())
        assert {name: list(modes) for name, modes in found.items()} == {"made": ["crop", "shrink"]}
        assert found["made"]["crop"]["laplace"]["psnr_hole"][0] == 1.5
        evaluate.write(tmp_path / "evaluation-4.json", self.result(images=["c", "d"]))
        with pytest.raises(ValueError, match="evaluation-4.json was made of other images"):
            evaluate.recorded(tmp_path, Protocol())

    def test_nothing_recorded(self, tmp_path):
        assert evaluate.recorded(tmp_path / "nowhere", Protocol()) == {}


class TestCommand:
    def run(self, folder, out, *more):
        evaluate.main(["--images", str(folder), "--out", str(out), "--size", "64", "--hole", "28", *map(str, more)])

    def test_writes_all_that_made_it(self, folder, weights, tmp_path, capsys):
        out = tmp_path / "results" / "evaluation.json"
        train = tmp_path / "train"
        train.mkdir()
        (folder / "2.png").rename(train / "2.png")
        needs = ["--train", train, "--crops", "5", "--weights", weights[4]]
        self.run(folder, out, "--methods", "laplace", "k-nn", "cascade", *needs)
        result = evaluate.read(out)
        assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["laplace", "k-nn", "cascade"]
        assert list(result["methods"]) == ["laplace", "k-nn", "cascade"]
        assert result["images"] == ["0.png", "1.png"]
        assert result["name"] == "photos"
        assert result["protocol"] == vars(Protocol(64, 28))
        assert result["photos"][0]["hash"] == data.open_photos(folder, whole=True).hash
        assert result["train"]["crops"] == 5
        assert result["weights"][0]["sha256"] == checkpoints.sha256(weights[4])
        assert result["versions"]["torch"] == torch.__version__
        crops = data.test_crops(data.open_photos(folder, whole=True), 64, "crop")
        same = evaluate.evaluate({"laplace": evaluate.inpainter(laplace)}, crops, SMALL)["laplace"]["values"]
        assert result["methods"]["laplace"]["values"]["ssim_hole"] == pytest.approx(
            same["ssim_hole"].tolist(), abs=1e-5
        )

    def test_keeps_a_result_that_is_there(self, folder, tmp_path):
        out = tmp_path / "r.json"
        out.write_text("mine")
        with pytest.raises(SystemExit, match="--force"):
            self.run(folder, out, "--methods", "mean")
        assert out.read_text() == "mine"
        self.run(folder, out, "--methods", "mean", "--force")
        assert list(json.loads(out.read_text())["methods"]) == ["mean"]

    def test_several_folders_are_one_set(self, folder, tmp_path):
        evaluate.main(["--images", str(folder), str(folder), "--out", str(tmp_path / "r.json"), "--methods", "mean"])
        assert len(evaluate.read(tmp_path / "r.json")["methods"]["mean"]["values"]["psnr_hole"]) == 6

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--methods", "lapace"], "unknown method 'lapace'.*laplace"),
            (["--methods", "cascade"], "--weights FILE"),
            (["--methods", "k-nn"], "--train FOLDER"),
            (["--methods", "k-nn", "--train", "PHOTOS"], "the very photos"),
            (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
            (["--hole", "64"], "got 64"),
            (["--crops", "0"], "--crops"),
            (["--images", "nowhere"], "nowhere"),
            (["--out", "PHOTOS"], "is a folder"),
            (["--out", "/proc/r.json"], "cannot be written"),
        ],
    )
    def test_says_in_a_line_what_is_wrong_before_it_starts(self, more, message, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(evaluate, "evaluate", None)  # would fail if anything were measured
        more = [str(folder) if text == "PHOTOS" else text for text in more]
        with pytest.raises(SystemExit, match=f"^error: .*{message}") as caught:
            self.run(folder, tmp_path / "r.json", *more)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "r.json").exists()

    def test_a_missing_package_is_told_when_it_is_asked_for(self, folder, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        with pytest.raises(SystemExit, match="telea: .*pip install"):
            self.run(folder, tmp_path / "r.json", "--methods", "telea")
