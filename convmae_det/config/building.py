"""From a configuration to plain arguments, of which modeling/ builds its networks. Nothing is built here."""

from ..errors import InputError
from .presets import PRESETS

STRIDE = 16


def encoder_arguments(cfg) -> dict:
    """The shape of the encoder that `MODEL.CONVMAE` describes, as arguments of :class:`Encoder`.

    Raises InputError, naming the key, for values from which no encoder can be built.
    """
    node = cfg.MODEL.CONVMAE
    if node.ARCH not in PRESETS:
        raise InputError(f"MODEL.CONVMAE.ARCH is {node.ARCH!r}; choose one of {', '.join(PRESETS)}")
    shape = dict(PRESETS[node.ARCH])
    for name, value in dict(
        embed_dims=node.EMBED_DIMS, depths=node.DEPTHS, num_heads=node.NUM_HEADS, mlp_ratios=node.MLP_RATIOS
    ).items():
        if value:
            shape[name] = value if name == "num_heads" else tuple(value)
    _check_shape(shape)
    channels, deviations = len(cfg.MODEL.PIXEL_MEAN), len(cfg.MODEL.PIXEL_STD)
    if channels != deviations:
        raise InputError(
            f"MODEL.PIXEL_STD has {deviations} numbers, but MODEL.PIXEL_MEAN {channels}; give one a channel"
        )
    size, kernel, rate = node.PRETRAIN_IMAGE_SIZE, node.CONV_KERNEL_SIZE, node.DROP_PATH_RATE
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"MODEL.CONVMAE.CONV_KERNEL_SIZE is {kernel}; it must be odd and positive, such as 5")
    if not 0 <= rate < 1:
        raise InputError(f"MODEL.CONVMAE.DROP_PATH_RATE is {rate}; it must be at least 0 and below 1")
    return shape | dict(
        in_channels=channels,
        conv_kernel_size=kernel,
        drop_path_rate=rate,
        grid=grid_of("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", size),
        activation_checkpoint=node.ACTIVATION_CHECKPOINT,
    )


def _check_shape(shape: dict) -> None:
    for name in ("embed_dims", "depths", "mlp_ratios"):
        if len(shape[name]) != 3 or min(shape[name]) <= 0:
            raise InputError(
                f"MODEL.CONVMAE.{name.upper()} is {list(shape[name])}; it needs three positive numbers, one a stage"
            )
    width, heads = shape["embed_dims"][2], shape["num_heads"]
    if heads <= 0 or width % heads:
        raise InputError(
            f"MODEL.CONVMAE.NUM_HEADS is {heads}, which doesn't divide the width {width} of stage 3; "
            "choose a divisor, or change the third of MODEL.CONVMAE.EMBED_DIMS"
        )
    if width % 4:
        raise InputError(
            f"MODEL.CONVMAE.EMBED_DIMS ends in {width}; the sin-cos position embedding needs a multiple of 4"
        )


def grid_of(key: str, size: int) -> tuple[int, int]:
    """The stage-3 grid of a square image of `size` pixels, the value of the configuration's `key`."""
    if size <= 0 or size % STRIDE:
        raise InputError(f"{key} is {size}; it must be a positive multiple of {STRIDE} pixels")
    return size // STRIDE, size // STRIDE
