"""ONNX files of the networks: two runtimes of other makes compute what torch computes, at any size."""

import json
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny import DILATED, saved

from cascade_core import degradations
from cascade_core.fills import generator_input
from cascade_core.models import Cascade
from cascade_lab import cli, export, published
from cascade_lab.training import checkpoints, stages

onnxruntime = pytest.importorskip("onnxruntime", reason="NOT TESTED: ONNX Runtime is not installed")
SIZES = [(1, 64, 64), (2, 50, 70), (1, 33, 160)]


KINDS = {
    "color": {"generator_fill": "color"},
    "laplace and mask": {"generator_fill": "laplace and mask"},
    "dilated": DILATED,
}


@pytest.fixture(scope="module", params=list(KINDS))
def weights(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("weights") / "weights.safetensors", **KINDS[request.param])


def cascade(weights):
    networks = stages.load(weights)
    channels = 4 if networks["generator"].fill == "laplace and mask" else 3
    return Cascade(networks["generator"], networks["deblur_denoise"]), channels


@pytest.fixture(scope="module")
def model(weights):
    return export.export(weights)


def test_onnx_runtime_and_opencv_agree_with_torch_at_any_size(weights, model):
    network, channels = cascade(weights)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for number, height, width in SIZES:
        images = torch.rand(number, channels, height, width, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            wanted = network(images)
        for made, image in zip(session.run(["inpainted", "restored"], {"images": images.numpy()}), wanted, strict=True):
            assert np.abs(made - image.numpy()).max() < 2e-4
    cv2 = pytest.importorskip("cv2", reason="NOT TESTED: OpenCV, the second reader, is not installed")
    reader = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    reader.setInput(images.numpy())
    for made, image in zip(reader.forward(["inpainted", "restored"]), wanted, strict=True):
        assert np.abs(made - image.numpy()).max() < 2e-4


def test_the_file_says_what_it_is(weights, model):
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert (facts.pop("network"), facts.pop("store")) == ("cascade", "float32")
    facts = {key: json.loads(value) for key, value in facts.items()}
    assert facts["settings"] == checkpoints.read_about(weights)["settings"]
    assert (facts["size"], facts["hole"]) == (32, 14)
    assert facts["fill"] == stages.load(weights)["generator"].fill
    project = Path(export.__file__).parents[1] / "pyproject.toml"
    assert facts["licence"] == tomllib.loads(project.read_text())["project"]["license"]
    assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization"})
    sizes = [[d.dim_param for d in v.type.tensor_type.shape.dim] for v in (*model.graph.input, *model.graph.output)]
    assert sizes == [["batch", "", "height", "width"]] * 3
    assert model.opset_import[0].version == export.OPSET


@pytest.mark.parametrize(("store", "most"), [("float16", 2e-3), ("int8", 2e-2)])
def test_smaller_weights_change_little(weights, model, store, most):
    small = export.stored(model, store)
    assert [entry.value for entry in small.metadata_props if entry.key == "store"] == [store]
    images = torch.rand(1, cascade(weights)[1], 64, 64, generator=torch.Generator().manual_seed(1)).numpy()
    wanted, made = (
        onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"images": images}) for m in (model, small)
    )
    for a, b in zip(wanted, made, strict=True):
        assert 0 < np.abs(a - b).max() < most * np.abs(a).max()
    told = export.difference([model], [small], images)  # of the first output
    assert told == pytest.approx(255 * np.abs(wanted[0] - made[0]).mean())


@pytest.mark.parametrize("network", ["generator", "deblur_denoise"])
def test_one_network_of_the_published_weights(network, photos):
    model = export.export(published.weights("cascade+"), network, "int8")
    assert [value.name for value in model.graph.output] == list(export.OUTPUTS[network])
    facts = {entry.key: entry.value for entry in model.metadata_props}
    (record,) = [run for run in published.trainings("cascade+").values() if run["stage"] == 4]
    assert json.loads(facts["training"]) == record["weights_sha256"]
    masks = degradations.center_hole(len(photos), 64, 64, 28)
    images = generator_input(photos, masks, "laplace and mask") if network == "generator" else photos
    with torch.no_grad():
        wanted = stages.load(published.weights("cascade+"))[network](images).numpy()
    made = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"images": images.numpy()})[0]
    assert np.abs(made - wanted).mean() < 0.5 / 255


def test_what_cannot_be_exported_is_refused(weights, tmp_path):
    with pytest.raises(ValueError, match="no 'critic' to choose; there are generator"):
        export.export(weights, "critic")
    with pytest.raises(ValueError, match="no 'int4' to choose; there are float32"):
        export.export(weights, "cascade", "int4")
    networks, about = {"generator": stages.load(weights)["generator"]}, checkpoints.read_about(weights)
    checkpoints.save_weights(tmp_path / "half.safetensors", networks, about)
    with pytest.raises(ValueError, match="holds generator, but no deblur_denoise: use weights of stage 4"):
        export.export(tmp_path / "half.safetensors")


def test_the_command(weights, tmp_path, capsys):
    out = tmp_path / "small.onnx"
    command = ["export", "--weights", str(weights), "--network", "deblur_denoise", "--store", "float16", "--out"]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, str(out)])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"{out}: 0.0 MB\n"
    onnx.checker.check_model(onnx.load(out))
    for name, why in [
        ("small.onnx", "is there already; --force"),
        ("small.pb", "name it .onnx"),
        ("a/b.onnx", "no folder"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            cli.main([*command, str(tmp_path / name)])
        assert stopped.value.code == 1
        assert why in capsys.readouterr().err
