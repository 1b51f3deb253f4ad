"""Points in the plane, as pictures."""

import pytest
import torch

from cascade_lab.show.clouds import GENERATED, HIGH, LOW, REAL, SIDE, cloud


def right_and_up(points):  # the score rises to the right, and twice as fast upwards
    return points @ torch.tensor([[1.0], [2.0]])


def color(picture, x, y, reach=2.0):
    """The color at a point of the plane."""
    return picture[:, round((1 - y / reach) / 2 * SIDE), round((1 + x / reach) / 2 * SIDE)]


def test_points_lie_where_they_are_and_the_second_coordinate_goes_up():
    picture = cloud(torch.tensor([[1.0, 0.5]]), torch.tensor([[-1.0, 1.5]]), right_and_up, 2.0)
    assert picture.shape == (3, SIDE, SIDE)
    assert color(picture, 1.0, 0.5).tolist() == pytest.approx(REAL)
    assert color(picture, -1.0, 1.5).tolist() == pytest.approx(GENERATED)
    dots = ((picture - torch.tensor(GENERATED).view(3, 1, 1)).abs().sum(0) < 1e-5).sum()
    assert dots == 25


def test_the_ground_is_bright_where_the_score_is_high():
    none = torch.zeros(0, 2)
    picture = cloud(none, none, right_and_up, 2.0)
    assert picture[:, 0, -1].tolist() == pytest.approx(HIGH)
    assert picture[:, -1, 0].tolist() == pytest.approx(LOW)
    assert color(picture, -1.0, 1.0)[0] > color(picture, 1.0, -1.0)[0]  # upwards it rises faster


def test_points_outside_are_left_out_and_a_level_score_is_no_fault():
    none = torch.zeros(0, 2)
    level = cloud(none, none, lambda points: torch.zeros(len(points), 1))
    assert level.isfinite().all()
    assert torch.equal(cloud(torch.tensor([[50.0, 0.0]]), none, lambda points: torch.zeros(len(points), 1)), level)


def test_points_in_space_are_refused():
    with pytest.raises(ValueError, match="the real points"):
        cloud(torch.zeros(4, 3), torch.zeros(4, 2), right_and_up)
