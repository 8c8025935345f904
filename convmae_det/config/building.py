"""From a configuration to plain arguments, of which modeling/ builds its networks. Nothing is built here."""

from collections.abc import Sequence
from typing import Any

from yacs.config import CfgNode

from .checks.model import (
    check_backbone,
    check_classifier,
    check_encoder,
    check_masked_autoencoder,
)
from .checks.segmentation import check_upernet
from .presets import PRESETS, STRIDE


def build_encoder_arguments(cfg: CfgNode) -> dict[str, Any]:
    """The encoder that MODEL.CONVMAE describes, as arguments of :class:`..modeling.encoder.Encoder`.

    Raises:
        InputError: values from which no encoder can be built, by their key.
    """
    check_encoder(cfg)
    node = cfg.MODEL.CONVMAE
    shape = dict(PRESETS[node.ARCH])
    own = dict(embed_dims=node.EMBED_DIMS, depths=node.DEPTHS, num_heads=node.NUM_HEADS, mlp_ratios=node.MLP_RATIOS)
    shape |= {name: value if name == "num_heads" else tuple(value) for name, value in own.items() if value}
    return shape | dict(
        in_channels=len(cfg.MODEL.PIXEL_MEAN),
        conv_kernel_size=node.CONV_KERNEL_SIZE,
        drop_path_rate=node.DROP_PATH_RATE,
        grid=compute_grid(node.PRETRAIN_IMAGE_SIZE),
    )


def build_backbone_arguments(cfg: CfgNode) -> dict[str, Any]:
    """The detector's encoder and what it gives, as arguments of ConvMAEBackbone.

    In place of its encoder, arguments of Encoder under "encoder", and of the schedule of windows under "windows".

    Raises:
        InputError: as :func:`build_encoder_arguments`.
    """
    encoder = build_encoder_arguments(cfg)
    check_backbone(cfg)
    node = cfg.MODEL.CONVMAE
    if node.RELATIVE_POSITION != "decomposed":  # the second published code keeps the grid of pretraining
        encoder["grid"] = compute_grid(node.IMAGE_SIZE)
    return dict(
        encoder=encoder
        | choose_norm_eps(node.RELATIVE_POSITION)
        | dict(
            learned_position=True,
            crop_position=crops_position(node.RELATIVE_POSITION),
            relative_position=node.RELATIVE_POSITION,
            relative_grid=compute_grid(node.IMAGE_SIZE),
            final_norm=False,
        ),
        windows=build_window_arguments(cfg),
        out_features=node.OUT_FEATURES,
        square_pad=node.SQUARE_PAD,
        freeze_stages=node.FREEZE_STAGES,
        activation_checkpoint=node.ACTIVATION_CHECKPOINT,
    )


def compute_training_pad(cfg: CfgNode) -> int:
    """The side in pixels, a multiple of 32, of the square that holds every image of large-scale jitter; 0 without."""
    return -(-cfg.INPUT.LSJ.IMAGE_SIZE // 32) * 32 if cfg.INPUT.LSJ.ENABLED else 0


def crops_position(relative_position: str) -> bool:
    """Whether a map smaller than the detector's position embedding takes its corner: so padded images are trained.

    The second published code, which alone has decomposed relative positions, resizes the embedding.
    """
    return relative_position != "decomposed"


def choose_norm_eps(relative_position: str) -> dict[str, float]:
    """The epsilons of the norms in convolution and transformer blocks, as arguments of Encoder.

    They are told by the relative positions: the second published detector, which alone has decomposed ones, takes the
    transformer's for both, and the published segmentor, with a table for each block, that of the convolutions.
    """
    if relative_position == "decomposed":
        return dict(conv_norm_eps=1e-6, block_norm_eps=1e-6)
    return dict(conv_norm_eps=1e-5, block_norm_eps=1e-5 if relative_position == "blocks" else 1e-6)


def build_window_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Arguments of :func:`..modeling.window_schedule.build_attention_windows`, less the number of blocks."""
    node = cfg.MODEL.CONVMAE
    chosen = list(node.GLOBAL_BLOCKS)
    if not chosen and node.RELATIVE_POSITION == "blocks":  # the published segmentor attends globally throughout
        chosen = list(range((node.DEPTHS or PRESETS[node.ARCH]["depths"])[2]))
    return dict(global_blocks=chosen, window_size=node.WINDOW_SIZE, window_shift=node.WINDOW_SHIFT)


def build_pyramid_arguments(cfg: CfgNode) -> dict[str, Any]:
    """What Detectron2's FPN and SimpleFeaturePyramid have in common."""
    return dict(
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS, norm=cfg.MODEL.FPN.NORM, square_pad=cfg.MODEL.CONVMAE.SQUARE_PAD
    )


def build_fpn_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Arguments of Detectron2's FPN, and under "top_level" its last level: p6, or p7 where RetinaNet asks for it."""
    wants_p7 = cfg.MODEL.META_ARCHITECTURE == "RetinaNet" and "p7" in cfg.MODEL.RETINANET.IN_FEATURES
    return build_pyramid_arguments(cfg) | dict(
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
        top_level="p7" if wants_p7 else "p6",
    )


def build_upernet_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Arguments of UPerHead, less the maps that it is put on.

    Raises:
        InputError: values from which no head can be built, by their key.
    """
    check_upernet(cfg)
    node = cfg.MODEL.SEM_SEG_HEAD
    return dict(
        num_classes=node.NUM_CLASSES,
        channels=node.CONVS_DIM,
        auxiliary_channels=cfg.MODEL.UPERNET.AUXILIARY_DIM,
        loss_weight=node.LOSS_WEIGHT,
        ignore_value=node.IGNORE_VALUE,
    )


def build_masked_autoencoder_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Arguments of Encoder under "encoder" and of Decoder under "decoder", and the rest of MaskedAutoencoder's.

    Raises:
        InputError: as :func:`build_encoder_arguments`.
    """
    encoder, node = build_encoder_arguments(cfg), cfg.MODEL.MAE
    check_masked_autoencoder(cfg)
    return dict(
        encoder=encoder,
        decoder=dict(
            in_dim=encoder["embed_dims"][-1],
            dim=node.DECODER_EMBED_DIM,
            depth=node.DECODER_DEPTH,
            num_heads=node.DECODER_NUM_HEADS,
            mlp_ratio=node.DECODER_MLP_RATIO or encoder["mlp_ratios"][0],
            patch_values=STRIDE**2 * encoder["in_channels"],
            grid=encoder["grid"],
        ),
        multi_scale=node.MULTI_SCALE_DECODER,
        activation_checkpoint=cfg.MODEL.CONVMAE.ACTIVATION_CHECKPOINT,
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        mask_ratio=node.MASK_RATIO,
        masking=node.MASKING,
        masked_conv=node.MASKED_CONV,
        complementary_masks=node.COMPLEMENTARY_MASKS,
        norm_pix_loss=node.NORM_PIX_LOSS,
    )


def build_classifier_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Arguments of Encoder under "encoder", and the rest of ImageClassifier's.

    Raises:
        InputError: as :func:`build_encoder_arguments`.
    """
    encoder, node = build_encoder_arguments(cfg), cfg.MODEL.CLASSIFIER
    check_classifier(cfg)
    return dict(
        encoder=encoder | dict(learned_position=True, final_norm=False),
        activation_checkpoint=cfg.MODEL.CONVMAE.ACTIVATION_CHECKPOINT,
        num_classes=node.NUM_CLASSES,
        probe=node.PROBE,
        label_smoothing=node.LABEL_SMOOTHING,
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
    )


def compute_grid(size: int | Sequence[int]) -> tuple[int, int]:
    """The stage-3 grid of an image of a size as of :func:`list_sides`, multiples of 16."""
    height, width = list_sides(size)
    return height // STRIDE, width // STRIDE


def list_sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels: two numbers, or the side of a square."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
