"""The local/global schedule of the detector's stage 3."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convmae_det.modeling.attention import Window
from convmae_det.modeling.window_schedule import build_attention_windows, choose_global_blocks


@settings(max_examples=25)
@given(depth=st.integers(1, 40))
def test_default_global_blocks_are_evenly_spaced_and_end_in_the_last(depth):
    blocks = choose_global_blocks(depth)
    assert blocks[0] == 0 and blocks[-1] == depth - 1 and len(blocks) == min(depth, 4)
    gaps = torch.tensor(blocks).diff().tolist()
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_base_has_the_published_global_blocks():
    assert choose_global_blocks(11) == [0, 3, 6, 10]


@settings(max_examples=25)
@given(depth=st.integers(2, 12), size=st.integers(1, 9), shift=st.booleans(), data=st.data())
def test_local_blocks_alternate_between_plain_and_shifted_windows(depth, size, shift, data):
    chosen = data.draw(st.lists(st.integers(0, depth - 1), min_size=1, max_size=depth - 1, unique=True))
    windows = build_attention_windows(depth, chosen, size, shift)
    assert [i for i, window in enumerate(windows) if window is None] == sorted(chosen)
    local = [window for window in windows if window]
    assert local[::2] == [Window(size, 0)] * len(local[::2])
    assert local[1::2] == [Window(size, size // 2 if shift else 0)] * len(local[1::2])
