"""The verdicts on the paper's claims, from results in which the right verdict is known."""

import numpy as np
import pandas as pd
import pytest

from cascade_core.metrics import Interval
from cascade_lab.evaluation import claims, tables
from cascade_lab.evaluation.ablation import FULL

IMAGES = [f"{number}.jpg" for number in range(40)]
DIFFICULTY = np.random.default_rng(0).normal(0, 1.5, len(IMAGES))
DIFFICULTY -= DIFFICULTY.mean()
JITTER = np.random.default_rng(1).normal(0, 0.02, len(IMAGES))


def measured(means, level="none", mode="crop", data_set="BSD300"):
    """A row for each method and image; a method's name makes its own jitter."""
    parts = [
        pd.DataFrame(
            {
                "data_set": data_set,
                "mode": mode,
                "level": level,
                "method": method,
                "image": IMAGES,
                "run": f"run of {method}",
                "psnr_hole": mean + DIFFICULTY + np.roll(JITTER, i),
                "psnr_whole": mean + 7 + DIFFICULTY + np.roll(JITTER, i),
            }
        )
        for i, (method, mean) in enumerate(means.items())
    ]
    return pd.concat(parts, ignore_index=True)


def trained(gaps, mode="crop", data_set="BSD300"):
    """A row for each variant, seed, level and image; `gaps` to the full model by variant and level."""
    parts = []
    for i, ((variant, level), gap) in enumerate(gaps.items()):
        for seed in (0, 1, 2):
            values = 18 + gap + DIFFICULTY + np.roll(JITTER, i + seed)
            cells = {"size": 128, "variant": variant, "level": level, "seed": seed, "image": IMAGES}
            psnr = {"psnr_hole": values, "psnr_whole": values}
            parts.append(pd.DataFrame({"data_set": data_set, "mode": mode, **cells, **psnr}))
    return pd.concat(parts, ignore_index=True)


PAPER = tables.paper()["table 1"]["BSD300"]["psnr"]
GAPS = {(name, level): 0.0 for name in (FULL, "no pre-training", "only GAN") for level in ("none", "medium")}
LOST = {("no pre-training", "none"): -1.4, ("only GAN", "none"): -1.1}


def results(means, gaps=GAPS, medium=None, runs=None, data_set="BSD300"):
    evaluations = [measured(means, data_set=data_set)]
    evaluations += [measured(medium, "medium", data_set=data_set)] if medium else []
    return claims.Results(pd.concat(evaluations), trained(GAPS | gaps, data_set=data_set), runs or {})


def test_results_like_the_papers_replicate_all_of_it():
    found = claims.verdicts(results=results(PAPER, LOST, {"cascade": 19.0, "separate": 18.5}))
    assert list(found["replicated?"].unique()) == [claims.YES]
    assert not found["why"].any()
    assert list(found.columns) == list(claims.COLUMNS)
    assert found.loc["gain of pre-training", "paper"] == 1.4
    assert found.loc["order: cascade ahead of Neural Patch Synthesis", "ours"].mean == pytest.approx(0.08, abs=0.01)


def test_each_verdict_follows_its_own_numbers():
    means = PAPER | {"patchmatch": 14.0, "context encoder": 21.0}
    gaps = {("no pre-training", "none"): -0.5, ("only GAN", "none"): 0.4, ("only GAN", "medium"): -2.0}
    found = claims.verdicts(results=results(means, gaps, {"cascade": 18.0, "separate": 18.5}))
    assert found["replicated?"].to_dict() == {
        "Table 1, PatchMatch": claims.NO,
        "Table 1, Context Encoder": claims.ABOVE,
        "Table 1, Neural Patch Synthesis": claims.YES,
        "Table 1, Cascade": claims.YES,
        "order: cascade ahead of PatchMatch": claims.YES,
        "order: cascade ahead of Context Encoder": claims.NO,
        "order: cascade ahead of Neural Patch Synthesis": claims.YES,
        "gain of pre-training": claims.DIRECTION,
        "gain of the second network": claims.NO,
        "joint ahead of separate training, blur and noise": claims.NO,
    }
    assert found.loc["Table 1, PatchMatch", "why"] == "Ours is 3.12 dB below."
    assert found.loc["gain of pre-training", "why"].startswith("Ours is smaller; ")
    assert "it is worth +2.00 dB" in found.loc["gain of the second network", "why"]
    explained = found.loc[found["replicated?"] != claims.YES, "why"]
    assert explained.str.fullmatch(r"[A-Z].*\.").all()


def test_noise_is_no_gain():
    same = PAPER | {"neural patch synthesis": PAPER["cascade"]}
    found = claims.verdicts(results=results(same))
    assert found.loc["order: cascade ahead of Neural Patch Synthesis", "replicated?"] == claims.NO
    assert found.loc["gain of pre-training", "replicated?"] == claims.NO
    assert found.loc["gain of pre-training", "why"].startswith("Ours cannot be told apart from no difference")


def test_another_size_is_said():
    here = results(PAPER, LOST)
    small = here._replace(ablations=here.ablations.assign(size=64))
    assert not claims.verdicts(results=here).loc["gain of pre-training", "why"]
    assert claims.verdicts(results=small).loc["gain of pre-training", "why"] == "Measured at 64 px."


def test_a_handicap_is_marked_whatever_the_verdict():
    runs = {"run of neural patch synthesis": {"vgg": "random"}}
    assert (
        "random VGG-16"
        in claims.verdicts(results=results(PAPER, runs=runs)).loc["Table 1, Neural Patch Synthesis", "why"]
    )
    runs["run of neural patch synthesis"]["vgg"] = "imagenet"
    assert not claims.verdicts(results=results(PAPER, runs=runs)).loc["Table 1, Neural Patch Synthesis", "why"]


def test_other_photos_and_the_other_mode_are_reasons():
    low = {name: 15.0 for name in PAPER}
    here = results(low, data_set="ImageNet")
    both = pd.concat([here.evaluations, measured(low | {"cascade": 14.0}, mode="resize", data_set="ImageNet")])
    why = claims.verdicts("ImageNet", results=here._replace(evaluations=both))["why"]
    below = tables.paper()["table 1"]["ImageNet"]["psnr"]["cascade"] - 15
    note = f"Ours is {below:.2f} dB below (14.00 dB with resize); our 40 photos are not the paper's draw."
    assert why["Table 1, Cascade"] == note


def test_what_was_not_measured_is_said():
    few = results({"cascade": 18.4})
    found = claims.verdicts(results=few._replace(ablations=few.ablations[few.ablations["variant"] == FULL]))
    unknown = found.index[found["replicated?"] == claims.UNKNOWN]
    assert len(unknown) == len(found) - 1
    assert found.loc["Table 1, Cascade", "replicated?"] == claims.YES
    assert claims.table(found).data.loc["Table 1, Neural Patch Synthesis", "ours, dB"] == ""


def test_only_rows_of_the_data_set_and_mode_count():
    here, far = results(PAPER, LOST), {name: 10.0 for name in PAPER}
    more = [measured(far, mode="resize"), measured(far, data_set="ImageNet")]
    loss = [trained(GAPS, mode="resize"), trained(GAPS, data_set="ImageNet")]
    evaluations, ablations = pd.concat([here.evaluations, *more]), pd.concat([here.ablations, *loss])
    both = claims.verdicts(results=here._replace(evaluations=evaluations, ablations=ablations))
    pd.testing.assert_frame_equal(both, claims.verdicts(results=here))


@pytest.mark.parametrize(
    ("ours", "claimed", "verdict"),
    [
        ((0.5, 0.2, 0.8), 0.7, claims.YES),
        ((0.5, 0.2, 0.8), None, claims.YES),
        ((0.5, 0.2, 0.8), 1.2, claims.DIRECTION),
        ((2.5, 2.2, 2.8), 1.2, claims.DIRECTION),
        ((0.5, -0.1, 1.3), 1.2, claims.NO),
        ((-0.5, -0.8, -0.2), 0.7, claims.NO),
        ((-0.5, -0.8, -0.2), -0.7, claims.YES),
        ((0.5, np.nan, np.nan), 0.5, claims.NO),
    ],
)
def test_judged(ours, claimed, verdict):
    assert claims.judged(Interval(*ours, 40), claimed)[0] == verdict


def test_refusals():
    with pytest.raises(ValueError, match="unknown data set 'CelebA'"):
        claims.verdicts("CelebA", results=results(PAPER))
    with pytest.raises(ValueError, match="no result of ImageNet in the mode 'crop'"):
        claims.verdicts("ImageNet", results=results(PAPER))


def test_a_page_shows_signs_of_differences_alone():
    shown = claims.table(claims.verdicts(results=results(PAPER, LOST))).data
    assert shown.loc["Table 1, Cascade", "paper, dB"] == "18.41"
    assert shown.loc["gain of the second network", "paper, dB"] == "+1.10"
    assert shown.loc["order: cascade ahead of Neural Patch Synthesis", "ours, dB"].startswith("+0.0")


@pytest.mark.parametrize("data_set", ["BSD300", "ImageNet"])
def test_the_recorded_results_have_every_claim_measured(data_set):
    found = claims.verdicts(data_set)
    assert len(found) == 10
    assert claims.UNKNOWN not in set(found["replicated?"])
