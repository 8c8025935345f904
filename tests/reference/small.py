"""Networks, configurations and inputs that are small enough to test with."""

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn
from torch.testing import assert_close

from convmae_det.config import add_convmae_config

# arguments of an encoder, ours or the plain one
SHAPE = dict(embed_dims=(8, 12, 16), depths=(1, 1, 3), num_heads=2, mlp_ratios=(2, 2, 2))

ENCODER = (
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.CONVMAE.EMBED_DIMS", [8, 12, 16]),
    *("MODEL.CONVMAE.DEPTHS", [1, 1, 3]),
    *("MODEL.CONVMAE.NUM_HEADS", 2),
    *("MODEL.CONVMAE.MLP_RATIOS", [2, 2, 2]),
    *("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 64),
)
DETECTOR = (
    *("MODEL.CONVMAE.IMAGE_SIZE", 64),
    *("MODEL.CONVMAE.GLOBAL_BLOCKS", [1]),
    *("MODEL.CONVMAE.WINDOW_SIZE", 3),
    *("MODEL.FPN.OUT_CHANNELS", 16),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32], [64], [128]]),
    *("MODEL.ROI_HEADS.NUM_CLASSES", 4),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("MODEL.ROI_BOX_HEAD.NUM_CONV", 1),
    *("MODEL.ROI_BOX_HEAD.CONV_DIM", 16),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32),
    *("MODEL.ROI_MASK_HEAD.NUM_CONV", 1),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 50),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", 20),
    *("INPUT.LSJ.IMAGE_SIZE", 64),
    *("INPUT.MIN_SIZE_TEST", 64),
    *("INPUT.MAX_SIZE_TEST", 64),
)
AUTOENCODER = (
    *("MODEL.META_ARCHITECTURE", "MaskedAutoencoder"),
    *("MODEL.MAE.DECODER_EMBED_DIM", 16),
    *("MODEL.MAE.DECODER_DEPTH", 1),
    *("MODEL.MAE.DECODER_NUM_HEADS", 2),
)
CLASSIFIER = (
    *("MODEL.META_ARCHITECTURE", "ImageClassifier"),
    *("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 32),
    *("MODEL.CLASSIFIER.NUM_CLASSES", 3),
    *("DATASETS.CATEGORIES", [[0, "blue"], [1, "green"], [2, "red"]]),
)
SEGMENTOR = (
    *("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
    *("MODEL.BACKBONE.NAME", "build_convmae_upernet_backbone"),
    *("MODEL.CONVMAE.IMAGE_SIZE", 64),
    *("MODEL.CONVMAE.RELATIVE_POSITION", "blocks"),
    *("MODEL.SEM_SEG_HEAD.NAME", "UPerHead"),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 4),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 12),
    *("MODEL.UPERNET.AUXILIARY_DIM", 8),
)


def detector_cfg(*options) -> CfgNode:
    """A Mask R-CNN for images of 64×64 pixels; `options`: further keys and values in turn."""
    return _cfg(*ENCODER, *DETECTOR, *options)


def autoencoder_cfg(*options) -> CfgNode:
    return _cfg(*ENCODER, *AUTOENCODER, *options)


def classifier_cfg(*options) -> CfgNode:
    return _cfg(*ENCODER, *CLASSIFIER, *options)


def segmentor_cfg(*options) -> CfgNode:
    """A UPerNet for images of 64×64 pixels."""
    return _cfg(*ENCODER, *SEGMENTOR, *options)


def _cfg(*options) -> CfgNode:
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.merge_from_list(list(options))
    return cfg


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Noise on every parameter, so that none is zero or one by initialisation and drops out of a comparison."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return module


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def assert_near(ours, theirs, tolerance: float) -> None:
    """Tensors, or dicts of the same ones, are equal within `tolerance` relative to the largest value of each.

    Where the inputs are drawn freely both are computed in float64, lest a variance near zero blow up the rounding.
    """
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            scale = max(float(tensor.detach().abs().max()), 1e-3)
            assert_close(
                ours[name], tensor, rtol=0, atol=tolerance * scale, msg=lambda text, name=name: f"{name}: {text}"
            )
    else:
        assert_near({"": ours}, {"": theirs}, tolerance)


def annotated_image(height: int = 64, width: int = 64, objects: int = 2, channels: int = 3) -> dict:
    """What Detectron2's mapper gives for a training image with boxes and masks."""
    generator = torch.Generator().manual_seed(height * width + objects)
    instances = Instances((height, width))
    corner = torch.rand(objects, 2, generator=generator) * torch.tensor([width / 2, height / 2])
    boxes = torch.cat([corner, corner + torch.tensor([width / 3, height / 3])], dim=1)
    masks = torch.zeros(objects, height, width, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    instances.gt_boxes, instances.gt_masks = Boxes(boxes), BitMasks(masks)
    instances.gt_classes = torch.arange(objects) % 4
    image = torch.randint(0, 256, (channels, height, width), generator=generator, dtype=torch.uint8)
    semantic = masks.any(0).long() if objects else torch.zeros(height, width, dtype=torch.long)
    return {"image": image, "height": height, "width": width, "instances": instances, "sem_seg": semantic}
