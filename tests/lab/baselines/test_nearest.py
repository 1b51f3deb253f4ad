"""k nearest neighbors against a search by hand."""

import pytest
import torch

from cascade_core.degradations import center_hole
from cascade_lab.baselines import KNearest, nearest
from cascade_lab.data.brush import brush_masks


@pytest.fixture
def crops():
    return torch.randint(0, 256, (23, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def by_hand(crops, images, masks, k):
    distance = ((crops.double()[None] - images.double()[:, None]).square() * (1 - masks)[:, None]).sum((2, 3, 4))
    chosen = distance.topk(k, largest=False).indices
    return torch.where(masks == 1, crops[chosen].mean(1), images)


@pytest.mark.parametrize("k", [1, 5, 23])
@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_finds_what_a_search_by_hand_finds(crops, images, k, chunk, device, monkeypatch):
    monkeypatch.setattr(nearest, "CHUNK", chunk)
    masks = brush_masks(4, 16, 16, torch.Generator().manual_seed(2))
    output = KNearest(crops, k)(images.to(device), masks.to(device))
    torch.testing.assert_close(output.cpu(), by_hand(crops / 255, images, masks, k), atol=1e-6, rtol=0)


def test_images_with_the_same_mask_are_searched_together(crops, images, monkeypatch):
    """Two masks for four images, in mixed order: two searches, and each image gets its own neighbors."""
    two = brush_masks(2, 16, 16, torch.Generator().manual_seed(2))
    masks, searches, search = two[[0, 1, 0, 1]], [], KNearest.search

    def spy(self, images, known):
        searches.append(len(images))
        return search(self, images, known)

    monkeypatch.setattr(KNearest, "search", spy)
    torch.testing.assert_close(KNearest(crops, 2)(images, masks), by_hand(crops / 255, images, masks, 2))
    assert searches == [2, 2]


def test_bytes_and_floats_are_the_same_crops(crops, images):
    masks = center_hole(4, 16, 16)
    torch.testing.assert_close(
        KNearest(crops, 3)(images, masks), KNearest(crops / 255, 3)(images, masks), atol=1e-6, rtol=0
    )


def test_looks_at_the_context_alone(crops):
    """A crop with the right context and another hole is nearer than one with the right hole and another context."""
    masks = center_hole(1, 16, 16)
    image = crops[3:4] / 255
    right_context = torch.where(masks == 1, 1 - image, image)
    right_hole = torch.where(masks == 1, image, image + 0.1)
    output = KNearest(torch.cat([right_hole, right_context]), k=1)(image, masks)
    torch.testing.assert_close(output, right_context, atol=1e-6, rtol=0)


def test_tells_crops_apart_that_differ_by_one_level_in_one_pixel():
    gray = torch.full((3, 3, 16, 16), 200, dtype=torch.uint8)
    gray[0, 0, 0, 0] += 1
    gray[2, 0, 0, 0] -= 1
    gray[:, :, 8, 8] = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None]
    masks = center_hole(1, 16, 16, 4)
    for index in range(3):
        output = KNearest(gray, k=1)(gray[index : index + 1] / 255, masks)
        assert (output[0, 0, 8, 8] * 255).round() == gray[index, 0, 8, 8]


@pytest.mark.parametrize(
    ("crops", "k", "message"),
    [
        (torch.zeros(4, 1, 8, 8), 1, r"\(4, 1, 8, 8\)"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.int64), 1, "int64"),
        (torch.zeros(4, 3, 8, 8), 0, "got 0"),
        (torch.zeros(4, 3, 8, 8), 5, "got 5"),
    ],
)
def test_refuses_crops_that_it_cannot_search(crops, k, message):
    with pytest.raises(ValueError, match=message):
        KNearest(crops, k)


def test_refuses_images_of_another_size(crops):
    with pytest.raises(ValueError, match=r"\(16, 16\).*\(8, 8\)"):
        KNearest(crops)(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
