"""Windows cover an image, and their logits are averaged where they overlap."""

import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import assert_near, segmentor_cfg
from torch import nn

from convmae_det.errors import InputError
from convmae_det.inference.sliding import SlidingSegmentor, slide_windows


class Recorder(nn.Module):
    """Gives each pixel its value, and how far it is from the left of its window."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, batch):
        self.sizes += [tuple(image["image"].shape[1:]) for image in batch]
        results = []
        for image in batch:
            columns = torch.arange(image["image"].shape[2]).expand(image["image"].shape[1:])
            results.append({"sem_seg": torch.stack([image["image"][0].float(), columns.float()])})
        return results


@settings(max_examples=40)
@given(height=st.integers(1, 40), width=st.integers(1, 40), window=st.integers(1, 20), data=st.data())
def test_windows_cover_every_pixel(height, width, window, data):
    stride = data.draw(st.integers(1, window))
    model = Recorder()
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    (result,) = SlidingSegmentor(model, window, stride)([{"image": image}])
    assert torch.equal(result["sem_seg"][0], image[0].float())  # the mean of equal values
    assert set(model.sizes) == {(min(height, window), min(width, window))}
    count = [len(range(0, max(side - window, 0), stride)) + 1 for side in (height, width)]
    assert len(model.sizes) == count[0] * count[1]


def test_overlaps_are_averaged():
    (result,) = SlidingSegmentor(Recorder(), 4, 2)([{"image": torch.zeros(3, 4, 7)}])
    # windows begin at 0, 2 and 3
    assert result["sem_seg"][1, 0].tolist() == pytest.approx([0, 1, 1, (3 + 1 + 0) / 3, 1.5, 2.5, 3])


def test_results_have_the_size_that_is_asked_for():
    entry = {"image": torch.zeros(3, 8, 8), "height": 20, "width": 12}
    (result,) = SlidingSegmentor(Recorder(), 8, 8)([entry])
    assert result["sem_seg"].shape == (2, 20, 12)


def test_one_window_is_the_model_itself():
    model = build_model(segmentor_cfg("TEST.SLIDING_WINDOW", 64, "TEST.SLIDING_STRIDE", 40)).eval()
    entry = {"image": torch.randint(0, 256, (3, 64, 50), dtype=torch.uint8), "height": 32, "width": 25}
    with torch.no_grad():
        (found,) = slide_windows(segmentor_cfg("TEST.SLIDING_WINDOW", 64, "TEST.SLIDING_STRIDE", 43), model)([entry])
        (expected,) = model([entry])
    assert_near(found["sem_seg"], expected["sem_seg"], 1e-5)
    assert slide_windows(segmentor_cfg(), model) is model


@pytest.mark.parametrize(
    "key, value, others", [("TEST.SLIDING_WINDOW", -1, ()), ("TEST.SLIDING_STRIDE", 65, ("TEST.SLIDING_WINDOW", 64))]
)
def test_windows_that_leave_gaps_are_refused(key, value, others):
    with pytest.raises(InputError, match=f"^{key} is "):
        slide_windows(segmentor_cfg(*others, key, value), nn.Identity())
