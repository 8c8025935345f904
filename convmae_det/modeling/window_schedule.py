"""The local/global schedule: which blocks of the detector's stage 3 attend to all tokens (paper, section 3.4)."""

from ..errors import InputError
from .attention import Window


def attention_windows(node, depth: int) -> list[Window | None]:
    """For each block of stage 3 its window, None for global attention; `node` is `MODEL.CONVMAE`.

    Local blocks alternate between plain windows and windows moved by half their size.
    """
    global_blocks = list(node.GLOBAL_BLOCKS) or default_global_blocks(depth)
    outside = [index for index in global_blocks if not 0 <= index < depth]
    if outside:
        raise InputError(
            f"MODEL.CONVMAE.GLOBAL_BLOCKS names block {outside[0]}, but stage 3 has blocks 0 to {depth - 1}"
        )
    if node.WINDOW_SIZE < 1:
        raise InputError(f"MODEL.CONVMAE.WINDOW_SIZE is {node.WINDOW_SIZE}; it must be at least 1 token, such as 7")
    shifts = [0, node.WINDOW_SIZE // 2 if node.WINDOW_SHIFT else 0]
    windows: list[Window | None] = [None] * depth
    local_blocks = [index for index in range(depth) if index not in global_blocks]
    for turn, index in enumerate(local_blocks):
        windows[index] = Window(node.WINDOW_SIZE, shifts[turn % 2])
    return windows


def default_global_blocks(depth: int) -> list[int]:
    """Four blocks, evenly spaced from the first to the last: 0 3 6 10 of 11 (paper, section 3.4)."""
    return sorted({turn * (depth - 1) // 3 for turn in range(4)})
