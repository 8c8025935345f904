"""The local/global schedule: which blocks of the detector's stage 3 attend to all tokens (paper, section 3.4)."""

from collections.abc import Sequence

from .attention import Window


def build_attention_windows(
    depth: int, global_blocks: Sequence[int], window_size: int, window_shift: bool
) -> list[Window | None]:
    """For each block of stage 3 its window, None for global attention.

    Args:
        depth: number of blocks
        global_blocks: those with global attention, counted from 0; empty: four, evenly spaced
        window_size: side of the windows of all others, in tokens
        window_shift: local blocks alternate between plain windows and windows moved by half their size
    """
    global_blocks = global_blocks or choose_global_blocks(depth)
    shifts = [0, window_size // 2 if window_shift else 0]
    windows: list[Window | None] = [None] * depth
    local_blocks = [index for index in range(depth) if index not in global_blocks]
    for turn, index in enumerate(local_blocks):
        windows[index] = Window(window_size, shifts[turn % 2])
    return windows


def choose_global_blocks(depth: int) -> list[int]:
    """Four blocks, evenly spaced from the first to the last: 0 3 6 10 of 11 (paper, section 3.4)."""
    return sorted({turn * (depth - 1) // 3 for turn in range(4)})
