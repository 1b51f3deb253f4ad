"""The tables' code: methods, protocols, results, and the command that writes them."""

import contextlib
import io
import json
import os
import re
import shutil
import sys
import time
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from cascade_core import metrics
from cascade_core.degradations import HOLE_COLOR
from cascade_core.models import Cascade
from cascade_lab import cli, data, published
from cascade_lab.baselines import INPAINTERS, laplace
from cascade_lab.baselines.context_encoder import context_encoder
from cascade_lab.data import overlap
from cascade_lab.evaluation import evaluate, methods, records, tables
from cascade_lab.evaluation.protocol import Protocol, degraded_images
from cascade_lab.training import checkpoints, profiles, stages
from cascade_lab.variants import SelfEnsemble

SMALL = Protocol(64, 28, "crop")
TINY = profiles.read("smoke", {"generator_widths": (4,) * 5, "generator_blocks": 1, "deblur_denoise_width": 4})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files as the stages leave them: 2 (generator and critic), 3 (refinement network), 4 (both), and another."""
    paths, folder = {}, tmp_path_factory.mktemp("weights")
    stages_of = {2: ("generator", "critic"), 3: ("deblur_denoise",), 4: ("generator", "deblur_denoise")}
    stages_of["ce"] = ("context_encoder", "discriminator")
    for stage, names in stages_of.items():
        networks = {name: stages.build(name, TINY, seed=len(paths)) for name in names}
        paths[stage] = folder / f"stage{stage}" / "weights.safetensors"
        checkpoints.save_weights(paths[stage], networks, {"stage": stage, "settings": stages.sizes(TINY)})
    return paths


@pytest.fixture
def folder(tmp_path, photos):
    """A folder of three photos, and one that is none."""
    path = tmp_path / "photos"
    path.mkdir()
    for i, pixels in enumerate((photos[:3] * 255).byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(path / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def tuning():
    """Two training crops of 64 px."""
    return next(iter(data.training_batches(data.open_photos(None, "train"), 64, 2, 0, 0, 1)))


@pytest.fixture(scope="module")
def wheel():
    """scikit-image's photos at half their size, by what they show."""
    photos = [pair for split in ("train", "test") for pair in data.open_photos(None, split).items()]
    return {file.split(".")[0]: photo.reduce(2) for file, photo in photos}


class TestProtocol:
    @pytest.mark.parametrize("values", [{"level": "heavy"}, {"hole": 128}, {"hole": 0}])
    def test_refuses(self, values):
        with pytest.raises(ValueError, match=str(next(iter(values.values())))):
            Protocol(**values)

    def test_the_hole_alone(self, photos):
        degraded = degraded_images(photos, SMALL)
        known = (degraded.masks == 0).expand_as(photos)
        assert degraded.masks.sum((1, 2, 3)).tolist() == [28**2] * 4
        assert torch.equal(degraded.images[known], photos[known])
        torch.testing.assert_close(degraded.images[:, :, 32, 32], torch.tensor([HOLE_COLOR] * 4))

    def test_a_seed_gives_one_set(self, photos):
        first, again, other = (
            degraded_images(photos, Protocol(64, 28, level="high", seed=s)).images for s in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


class TestMethods:
    def test_a_missing_package_is_named_and_the_rest_runs(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        usable, missing = methods.without_training()
        assert "pip install" in missing["telea"]
        assert {"input", "mean", "laplace", "biharmonic"} <= set(usable)
        assert set(usable) | set(missing) == {"input", *INPAINTERS}

    def test_in_batches_as_at_once(self, photos):
        degraded = degraded_images(photos, SMALL)
        method = methods.from_inpainter(laplace)
        assert torch.equal(methods.restore_all(method, degraded, batch=3), laplace(degraded.images, degraded.masks))

    def test_from_weights(self, weights, photos):
        degraded = degraded_images(photos, SMALL)
        found = methods.from_weights(*weights.values())
        assert set(found) == {"inpainted", "cascade", "generator", "deblur_denoise", "separate", "context encoder"}
        joint = Cascade(**stages.load(weights[4])).eval()
        alone = {"generator": stages.load(weights[2])["generator"], **stages.load(weights[3])}
        with torch.no_grad():
            inpainted, restored = joint(degraded.images)
            expected = {
                "inpainted": inpainted,
                "cascade": restored,
                "generator": alone["generator"](degraded.images),
                "deblur_denoise": alone["deblur_denoise"](degraded.images),
                "separate": Cascade(**alone).eval()(degraded.images).restored,
                "context encoder": context_encoder(stages.load(weights["ce"])["context_encoder"])(*degraded[:2]),
            }
        for name, method in found.items():
            torch.testing.assert_close(method(degraded), expected[name])

    def test_ensembles_of_networks(self, weights, photos):
        degraded = degraded_images(photos, SMALL)
        found = methods.from_weights(*weights.values(), ensemble=True)
        plain = {"context encoder"}
        assert {name.removesuffix(", x8") for name in found} == set(methods.from_weights(*weights.values()))
        assert {name for name in found if not name.endswith(", x8")} == plain
        cascade = SelfEnsemble(Cascade(**stages.load(weights[4])).eval())
        with torch.no_grad():
            torch.testing.assert_close(found["cascade, x8"](degraded), cascade(degraded.images).restored)
        assert tables.title("generator, MSE, x8") == f"{tables.title('generator, MSE')}, x8"

    @pytest.mark.parametrize(
        ("fill", "stage", "name"),
        [("color", 1, "generator, MSE"), ("laplace", 1, "generator+, MSE"), ("laplace", 2, "generator+")],
    )
    def test_a_generator_alone_is_called_by_its_stage_and_fill(self, fill, stage, name, tmp_path):
        profile = profiles.read("smoke", {"generator_fill": fill})
        about = {"stage": stage, "profile": "smoke", "settings": stages.sizes(profile)}
        networks = {"generator": stages.build("generator", profile), "critic": stages.build("critic", profile)}
        checkpoints.save_weights(tmp_path / "x.safetensors", networks, about)
        assert list(methods.from_weights(tmp_path / "x.safetensors")) == [name]

    def test_from_weights_refuses_the_same_network_twice(self, weights):
        with pytest.raises(ValueError, match="generator"):
            methods.from_weights(weights[2], weights[2])

    def test_k_nearest_finds_a_photo_that_it_knows(self, photos):
        degraded = degraded_images(photos, SMALL)
        found = methods.k_nearest(photos[:1])(degraded)
        torch.testing.assert_close(found[0], photos[0])  # the one neighbor there is

    def test_a_chain_is_tuned_on_noise_that_is_not_the_tests(self, tuning, monkeypatch):
        seeds, protocol = [], Protocol(64, 28, level="medium", seed=3)
        monkeypatch.setattr(
            methods, "degraded_images", lambda crops, other: seeds.append(other.seed) or degraded_images(crops, other)
        )
        methods.tuned_chain(tuning[:2], protocol)
        assert len(seeds) == 1
        assert seeds[0] != protocol.seed

    def test_tuned_chain_is_better_than_its_fill(self, photos, tuning):
        protocol = Protocol(64, 28, level="medium")
        method, steps = methods.tuned_chain(tuning, protocol)
        assert steps[0] == "laplace"
        assert len(steps) == 3
        fills = {"chain": method, "laplace": methods.from_inpainter(laplace)}
        found = tables.by_method(evaluate.evaluate(fills, photos, protocol))
        assert (found["chain"]["psnr_whole"] > found["laplace"]["psnr_whole"] + 1).all()

    def test_blind_chain_is_given_nothing(self, photos, tuning, monkeypatch):
        monkeypatch.setattr(methods, "GUESSES", methods.GUESSES[1:4])
        protocol = Protocol(64, 28, level="medium")
        blind, _ = methods.tuned_chain(tuning, protocol, blind=True)
        degraded = degraded_images(photos, protocol)
        wrong = degraded._replace(kernels=torch.ones_like(degraded.kernels), sigma=torch.zeros_like(degraded.sigma))
        output = blind(degraded)
        assert torch.equal(output, blind(wrong))
        gained = metrics.psnr(output, photos) - metrics.psnr(laplace(degraded.images, degraded.masks), photos)
        assert gained.mean() > 1

    def test_blind_chain_without_its_package(self, photos, monkeypatch):
        monkeypatch.setitem(sys.modules, "pywt", None)
        with pytest.raises(ImportError, match="pywt"):
            methods.tuned_chain(photos[:2], Protocol(64, 28, level="medium"), blind=True)

    def test_tuned_chain_without_a_package(self, photos, monkeypatch):
        monkeypatch.setitem(sys.modules, "pywt", None)
        _, steps = methods.tuned_chain(photos[:2], Protocol(64, 28, level="high"))
        assert len(steps) > 1
        assert not any("wavelets" in step for step in steps)


def test_evaluate_measures_each_method_on_the_same_images(photos):
    chosen = {"laplace": methods.from_inpainter(laplace), "input": lambda degraded: degraded.images}
    results = evaluate.evaluate(chosen, photos, SMALL)
    degraded = degraded_images(photos, SMALL)
    expected = metrics.measure(laplace(degraded.images, degraded.masks), photos, degraded.masks)
    assert list(results["method"].unique()) == list(chosen)
    assert (results[list(vars(SMALL))] == list(vars(SMALL).values())).all(axis=None)
    found = tables.by_method(results)
    for metric, values in expected.items():
        assert found["laplace"][metric].tolist() == values.tolist()
    assert found["input"]["psnr_context"].tolist() == [float("inf")] * 4
    assert (found["laplace"]["seconds"] > 0).all()


def test_seconds_are_those_of_an_image(photos, monkeypatch):
    """By a clock on which a method takes 6 s for the four images."""
    clock = SimpleNamespace(now=50.0)

    def slow(degraded):
        clock.now += 6
        return degraded.images

    monkeypatch.setattr(evaluate, "time", SimpleNamespace(monotonic=lambda: clock.now))
    results = evaluate.evaluate(
        {"slow": slow, "slower": lambda degraded: slow(degraded._replace(images=slow(degraded)))}, photos, SMALL
    )
    assert results.groupby("method")["seconds"].unique().map(list).to_dict() == {"slow": [1.5], "slower": [3.0]}


def test_a_terminal_shows_how_far_a_method_is(photos, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = io.StringIO(), Terminal()
    crops = photos.repeat(20, 1, 1, 1)[:70]

    def slow(degraded):
        time.sleep(0.11)  # the bar is written ten times a second
        return degraded.images

    degraded = degraded_images(crops, SMALL)
    for stream in shown:
        monkeypatch.setattr(sys, "stderr", stream)
        methods.restore_all(slow, degraded, "slow")
    assert shown[0].getvalue() == ""
    assert re.findall(r"slow: +\d+%.*?(\d+/\d+)", shown[1].getvalue()) == ["0/70", "50/70"]


def test_a_network_that_has_diverged_is_nan_and_no_table_takes_it(photos, weights):
    """Never infinite, which two equal images are."""
    networks = stages.load(weights[4])
    for parameter in networks["deblur_denoise"].parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    chosen = methods.from_cascade(Cascade(**networks).eval())
    results = evaluate.evaluate(chosen, photos, SMALL)
    found = tables.by_method(results)
    for metric in ("psnr_hole", "psnr_context", "ssim_whole"):
        assert found["cascade"][metric].isna().all()
        assert found["inpainted"][metric].notna().all()
    for make in (partial(tables.table_1, data_set="BSD300"), tables.table_3):
        with pytest.raises(ValueError, match="cascade has diverged: psnr_hole is not a number for 4 of 4 images"):
            make(results)
    with pytest.raises(ValueError, match="cascade has diverged: ssim_whole"):
        tables.paired(found, "inpainted", "cascade", "ssim_whole")


class TestOverlap:
    """Photos that stand in both sets are found by what they show."""

    @pytest.fixture
    def sets(self, tmp_path, wheel):
        """Two test photos, and a folder for training photos with three others in it."""
        names = {"test": ("astronaut", "chelsea"), "train": ("coffee", "rocket", "hubble_deep_field")}
        for split, chosen in names.items():
            (tmp_path / split).mkdir()
            for name in chosen:
                wheel[name].save(tmp_path / split / f"{name}.png", compress_level=1)
        return tmp_path / "train", tmp_path / "test"

    @pytest.mark.parametrize(
        ("file", "change"),
        [
            ("other.png", lambda photo: photo),
            ("other.jpg", lambda photo: photo),
            ("other.webp", lambda photo: photo.resize((photo.width // 2, photo.height // 2))),
            ("other.jpg", ImageOps.mirror),
            ("deep/er/astronaut.png", lambda photo: photo),
        ],
    )
    def test_a_copy_is_found(self, sets, wheel, file, change):
        train, test = sets
        (train / file).parent.mkdir(parents=True, exist_ok=True)
        change(wheel["astronaut"]).save(train / file)
        found = overlap.overlap(data.open_photos(train, "train"), data.open_photos(test, "test"))
        assert found == [(file, "astronaut.png")]
        with pytest.raises(ValueError, match=f"1 are \\({file} of .*train is astronaut.png of .*test\\)"):
            overlap.refuse_overlap(data.open_photos(train, "train"), data.open_photos(test, "test"))

    def test_other_photos_are_not(self, sets):
        assert overlap.overlap(*(data.open_photos(folder, folder.name) for folder in sets)) == []
        assert overlap.overlap(data.open_photos(None, "train"), data.open_photos(None, "test")) == []

    def test_flat_photos_of_other_colors_are_not(self, tmp_path):
        for folder, color in (("a", "red"), ("b", "blue")):
            (tmp_path / folder).mkdir()
            Image.new("RGB", (64, 64), color).save(tmp_path / folder / "flat.png")
        assert overlap.overlap(*(data.open_photos(tmp_path / folder, whole=True) for folder in "ab")) == []

    def test_of_many_photos_the_files_are_compared(self, sets, monkeypatch):
        train, test = sets
        shutil.copy(test / "chelsea.png", train / "cat.png")
        monkeypatch.setattr(overlap, "VERIFY", 3)
        monkeypatch.setattr(overlap, "_marks", None)  # would fail if a photo were compared
        assert overlap.overlap(data.open_photos(train, "train"), data.open_photos(test, "test")) == [
            ("cat.png", "chelsea.png")
        ]


class TestRecords:
    SETTING = {"data_set": "made", **vars(Protocol())}
    RECORD = {"kind": "evaluation", "protocol": vars(Protocol())}

    def rows(self, **changes):
        values = {"image": ["a", "b"], "method": "laplace", "psnr_hole": [1.5, float("inf")]}
        return pd.DataFrame({**self.SETTING, **values, **changes}, index=[0, 1])

    def write(self, folder, force=False, record=None, **changes):
        records.write(folder, "evaluations", self.rows(**changes), record or self.RECORD, force)

    def test_come_back_as_they_were(self, tmp_path):
        self.write(tmp_path / "deep", psnr_hole=[17.12345, float("nan")], ssim_hole=[float("inf"), 0.98765])
        found = records.read_table(tmp_path / "deep", "evaluations")
        assert found["psnr_hole"][0] == 17.12345
        assert pd.isna(found["psnr_hole"][1])
        assert found["ssim_hole"].tolist() == [float("inf"), 0.98765]
        assert records.read_runs(tmp_path / "deep")["runs"][found["run"][0]] == self.RECORD
        assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["evaluations.parquet", "runs.json"]

    def test_one_line_of_pandas_reads_them(self, tmp_path):
        self.write(tmp_path)
        assert pd.read_parquet(tmp_path / "evaluations.parquet")["psnr_hole"].tolist() == [1.5, float("inf")]

    @pytest.mark.parametrize("content", [None, b"", b"mine", b"PAR1"])
    def test_what_is_no_result_is_refused(self, content, tmp_path):
        for file, read in (("evaluations.parquet", records.read_table), ("runs.json", records.read_runs)):
            if content is not None:
                (tmp_path / file).write_bytes(content)
            with pytest.raises(ValueError, match=f"{file} holds no record") as caught:
                read(*([tmp_path, "evaluations"] if read is records.read_table else [tmp_path]))
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("text", ["[]", '{"runs": 3}', '{"arms": {}}'])
    def test_other_json_is_refused(self, text, tmp_path):
        (tmp_path / "runs.json").write_text(text)
        with pytest.raises(ValueError, match=r"runs\.json holds no records"):
            records.read_runs(tmp_path)

    def test_another_table_is_refused(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "evaluations.parquet").rename(tmp_path / "ablations.parquet")
        with pytest.raises(ValueError, match="no recorded ablations .it lacks the column variant"):
            records.read_table(tmp_path, "ablations")

    def test_new_rows_stand_beside_the_old(self, tmp_path):
        self.write(tmp_path)
        self.write(tmp_path, mode="resize")
        self.write(tmp_path, method="telea")
        self.write(tmp_path, hole=64)
        found = records.read_table(tmp_path, "evaluations")
        assert len(found) == 8
        assert found["psnr_hole"][0] == 1.5

    def test_the_same_rows_are_replaced_by_force_alone(self, tmp_path):
        self.write(tmp_path)
        self.write(tmp_path, mode="resize", record={**self.RECORD, "number": 2})
        before = (tmp_path / "evaluations.parquet").read_bytes()
        with pytest.raises(ValueError, match="mode crop.*method laplace already: --force"):
            self.write(tmp_path, psnr_hole=[3.0, 4.0])
        assert (tmp_path / "evaluations.parquet").read_bytes() == before
        self.write(tmp_path, force=True, psnr_hole=[3.0, 4.0], record={**self.RECORD, "number": 3})
        found = records.read_table(tmp_path, "evaluations")
        assert found["psnr_hole"].tolist() == [1.5, float("inf"), 3.0, 4.0]
        assert set(found["run"]) <= set(records.read_runs(tmp_path)["runs"])

    @pytest.mark.parametrize("force", [False, True])
    def test_other_images_by_the_same_name_are_refused(self, tmp_path, force):
        self.write(tmp_path)
        with pytest.raises(ValueError, match="other images by the name made: give another --name"):
            self.write(tmp_path, force, image=["c", "d"], method="telea")
        self.write(tmp_path, mode="grid", image=["c", "d"])

    def test_a_training_is_kept_once(self, tmp_path):
        before = {"stage": 1, "weights_sha256": "aa"}
        for number, method in enumerate(("cascade", "inpainted")):
            trained = {"stage": 4, "before": [before], "weights_sha256": "bb"}
            record = {**self.RECORD, "number": number, "weights": [{"training": trained}]}
            self.write(tmp_path, method=method, record=record)
        content = records.read_runs(tmp_path)
        assert content["trainings"] == {"aa": {"stage": 1}, "bb": {"stage": 4, "before": ["aa"]}}
        assert [run["weights"][0]["training"] for run in content["runs"].values()] == ["bb", "bb"]

    def test_a_record_of_another_file_is_not_the_weights_own(self, weights, tmp_path):
        own = shutil.copy(weights[2], tmp_path / "own.safetensors")
        beside = {"title": "its own", "weights_sha256": checkpoints.sha256(own)}
        (tmp_path / checkpoints.RECORD).write_text(json.dumps(beside))
        assert records.weights_record(own)["training"]["title"] == "its own"
        copied = records.weights_record(shutil.copy(weights[4], tmp_path / "copied.safetensors"))
        assert "title" not in copied["training"]
        assert copied["training"]["stage"] == 4

    def test_those_of_the_repository_are_small_and_whole(self):
        folder = published.folder()
        runs = records.read_runs(folder)
        for name in records.KEYS:
            assert set(records.read_table(folder, name)["run"]) <= set(runs["runs"])
        assert {"ours", "deepinv"} <= set(records.read_table(folder, "benchmarks")["way"])
        files = [*folder.glob("*.parquet"), folder / records.RUNS]
        assert sum(path.stat().st_size for path in files) < 2.6e6
        rows = records.read_table(folder, "evaluations")
        assert rows.drop(columns="run").notna().all(axis=None)
        assert len(rows) == 34465


class TestCommand:
    SIZE = ["--size", "64", "--hole", "28"]

    def run(self, folder, out, *more):
        said = io.StringIO()
        with pytest.raises(SystemExit) as end, contextlib.redirect_stderr(said):
            cli.main(["evaluate", "--photos", str(folder), "--out", str(out), *self.SIZE, *map(str, more)])
        if end.value.code:  # the line that the shell shows is the last
            raise SystemExit(said.getvalue().strip().splitlines()[-1]) from end.value

    def ask(self, *names):
        return [text for name in names for text in ("--methods", name)]

    def test_writes_all_that_made_it(self, folder, weights, tmp_path, capsys):
        out = tmp_path / "results"
        train = tmp_path / "train"
        train.mkdir()
        (folder / "2.png").rename(train / "2.png")
        needs = ["--train", train, "--crops", "5", "--weights", weights[4]]
        self.run(folder, out, *self.ask("laplace", "k-nn", "cascade"), *needs)
        rows = records.read_table(out, "evaluations")
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in lines] == ["laplace", "k-nn", "cascade", "written"]
        assert list(rows["method"].unique()) == ["laplace", "k-nn", "cascade"]
        assert rows["image"].tolist() == ["0.png", "1.png"] * 3
        assert set(rows["data_set"]) == {"photos"}
        result = records.read_runs(out)["runs"][rows["run"][0]]
        assert result["protocol"] == vars(Protocol(64, 28))
        assert result["photos"][0]["hash"] == data.open_photos(folder, whole=True).hash
        assert result["train"]["crops"] == 5
        assert result["weights"][0]["sha256"] == checkpoints.sha256(weights[4])
        assert result["versions"]["torch"] == torch.__version__
        crops = data.test_crops(data.open_photos(folder, whole=True), 64, "crop")
        same = evaluate.evaluate({"laplace": methods.from_inpainter(laplace)}, crops, SMALL)
        assert rows["ssim_hole"].tolist()[:2] == pytest.approx(same["ssim_hole"].tolist(), abs=1e-5)

    def trained_on(self, weights, photos, out, *before):
        """The weights, with a record that says on what they were trained, and the stages before."""
        about = checkpoints.read_about(weights[4])
        network = stages.load(weights[4])
        record, *earlier = ({"photos": data.photos_record(each)} for each in (photos, *before))
        record["before"] = earlier
        checkpoints.save_weights(out, network, about | {"training": record})
        return out

    def test_weights_that_were_trained_on_a_test_photo_are_refused(self, folder, weights, tmp_path, monkeypatch):
        """Also where that photo has another name; the record holds one hash, so the photos themselves are compared."""
        monkeypatch.setattr(evaluate, "restore_all", None)  # nothing is restored first
        (train := tmp_path / "train").mkdir()
        Image.open(folder / "1.png").save(train / "renamed.webp", lossless=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)).save(train / "own.png")
        path = self.trained_on(weights, data.open_photos(train, "train"), tmp_path / "some.safetensors")
        with pytest.raises(SystemExit, match=r"some.safetensors: .*renamed.webp of .*train is 1.png of .*photos"):
            self.run(folder, tmp_path / "r", "--weights", path)
        same = self.trained_on(weights, data.open_photos(folder, whole=True), tmp_path / "same.safetensors")
        with pytest.raises(SystemExit, match=r"same.safetensors was trained on all of these test photos, 0.png, 1.png"):
            self.run(folder, tmp_path / "r", "--weights", same)
        (other := tmp_path / "other").mkdir()
        Image.fromarray(np.random.default_rng(7).integers(0, 256, (80, 80, 3), np.uint8)).save(other / "0.png")
        tested = data.open_photos(folder, whole=True)
        late = self.trained_on(weights, data.open_photos(other, whole=True), tmp_path / "late.safetensors", tested)
        with pytest.raises(SystemExit, match=r"late.safetensors was trained on all of these test photos, 0.png, 1.png"):
            self.run(folder, tmp_path / "r", "--weights", late)

    @pytest.mark.filterwarnings("always")
    def test_weights_whose_training_photos_cannot_be_looked_into_are_named(self, folder, weights, tmp_path, capsys):
        (train := tmp_path / "train").mkdir()
        for i in range(2):
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (80, 80, 3), np.uint8)).save(train / f"{i}.png")
        path = self.trained_on(weights, data.open_photos(train, "train"), tmp_path / "some.safetensors")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # these can be, and none of them is a test photo
            evaluate._refuse_trained_on([path], data.open_photos(folder, whole=True))
        (train / "0.png").unlink()
        for file, why in (
            (path, f"those of its training, {train}, cannot be looked into"),
            (weights[4], "no record tells"),
        ):
            with pytest.warns(UserWarning, match=why):
                evaluate._refuse_trained_on([file], data.open_photos(folder, whole=True))

    def test_keeps_a_result_that_is_there(self, folder, tmp_path, monkeypatch):
        out = tmp_path / "r"
        self.run(folder, out, "--methods", "mean")
        before = (out / "evaluations.parquet").read_bytes()
        monkeypatch.setattr(evaluate, "restore_all", None)  # would fail if anything were restored
        with pytest.raises(SystemExit, match="--force"):
            self.run(folder, out, "--methods", "mean")
        assert (out / "evaluations.parquet").read_bytes() == before
        monkeypatch.undo()
        self.run(folder, out, "--methods", "mean", "--force")
        assert list(records.read_table(out, "evaluations")["method"].unique()) == ["mean"]

    def test_several_folders_are_one_set(self, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "more")
        self.run(folder, tmp_path / "r", "--photos", tmp_path / "more", "--methods", "mean")
        rows = records.read_table(tmp_path / "r", "evaluations")
        assert len(rows["psnr_hole"]) == 6
        assert rows["image"].nunique() == 6

    def test_without_weights_in_use_none_are_recorded(self, folder, tmp_path):
        self.run(folder, tmp_path / "r", "--methods", "mean")
        assert next(iter(records.read_runs(tmp_path / "r")["runs"].values()))["weights"] == []

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--methods", "lapace"], "unknown method 'lapace'.*laplace"),
            (["--methods", "cascade"], "--weights FILE"),
            (["--methods", "k-nn"], "--train FOLDER"),
            (["--methods", "k-nn", "--train", "PHOTOS"], "a test photo may not be trained.*0.png"),
            (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
            (["--hole", "64"], "got 64"),
            (["--crops", "0"], "--crops"),
            (["--photos", "nowhere"], "nowhere"),
            (["--photos", ""], "--photos is empty"),
            (["--train", " ", "--methods", "k-nn"], "--train is empty"),
            (["--mode", "shrink"], "unknown mode 'shrink'; the modes are crop, resize, grid"),
            (["--out", "PHOTOS/0.png", "--force"], "is a file"),
            (["--out", "/proc/r"], "cannot be written"),
            (["--out", ""], "--out is empty"),
            (["--out", "PHOTOS/" + 256 * "n"], "cannot be written"),
        ],
    )
    def test_says_in_a_line_what_is_wrong_before_it_starts(self, more, message, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(evaluate, "restore_all", None)  # would fail if anything were restored
        more = [text.replace("PHOTOS", str(folder)) for text in more]
        before = sorted(os.listdir(folder))
        with pytest.raises(SystemExit, match=f"^[Ee]rror: .*{message}") as caught:
            self.run(folder, tmp_path / "r", *more)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "r").exists()
        assert sorted(os.listdir(folder)) == before

    @pytest.mark.parametrize("file", ["evaluations.parquet", "runs.json"])
    def test_a_folder_where_a_file_should_be_is_refused_with_force_too(self, file, folder, tmp_path):
        (tmp_path / "r" / file).mkdir(parents=True)
        with pytest.raises(SystemExit, match=f"{file} is a folder"):
            self.run(folder, tmp_path / "r", "--methods", "mean", "--force")

    def test_a_damaged_result_is_one_line(self, folder, tmp_path):
        (tmp_path / "evaluations.parquet").write_bytes(b"garbage")
        with pytest.raises(SystemExit, match="^error: .*evaluations.parquet holds no recorded evaluations"):
            self.run(folder, tmp_path, "--methods", "mean")

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[1, 2]", b'{"files": 3}'])
    def test_a_damaged_manifest_is_one_line(self, content, folder, tmp_path):
        (folder / "manifest.json").write_bytes(content)
        with pytest.raises(SystemExit, match="^error: .*manifest.json (is not a manifest|cannot be read)") as caught:
            self.run(folder, tmp_path / "r", "--methods", "mean")
        assert "\n" not in str(caught.value)

    def test_a_missing_package_is_named_when_it_is_asked_for(self, folder, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        with pytest.raises(SystemExit, match="telea: .*pip install"):
            self.run(folder, tmp_path / "r", "--methods", "telea")
