"""What several test files share: the devices to test on, a real photo, and one thread, so that timing is even."""

import signal

import pytest
import torch

from cascade_lab import data

torch.set_num_threads(1)

# A shell's background jobs ignore Ctrl-C, and hand that on to what the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def device(request):
    return request.param


@pytest.fixture(scope="session")
def photos():
    """Four real crops of 64 px, (4, 3, 64, 64) in [0, 1]."""
    return data.test_crops(data.open_photos(None, "test"), 64, "grid")[::4][:4]
