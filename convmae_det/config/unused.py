"""Keys that do nothing: those of Detectron2 that nothing here reads, and those that others switch off."""

from collections.abc import Iterator, Mapping
from typing import Any

from yacs.config import CfgNode

from .architectures import AUTOENCODER, CLASSIFIER, DETECTORS, PANOPTIC, SEGMENTOR
from .checks.rules import is_same

OTHER_OPTIMIZER = "it is of an optimizer that SOLVER.OPTIMIZER doesn't have: set SOLVER.BETAS for AdamW"
UNDECAYED = "biases and norms have no weight decay, and SOLVER.WEIGHT_DECAY is that of all others"
NO_PROPOSALS = "proposals are those of MODEL.RPN, never read from files"
NO_NORM_STATISTICS = "statistics of batch norms are those of training, and the norms of our configurations have none"
NO_RESNET = "nothing reads it with a ConvMAE backbone, whose keys are under MODEL.CONVMAE"

# Keys that nothing reads: values with which nothing is lost, the default first, and why or what to use instead.
UNUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "VERSION": ((2,), "the names of the keys are those of version 2"),
    "MODEL.LOAD_PROPOSALS": ((False,), NO_PROPOSALS),
    "MODEL.ANCHOR_GENERATOR.ANGLES": (([[-90, 0, 90]],), "boxes have no angle"),
    "DATASETS.PROPOSAL_FILES_TRAIN": (((),), NO_PROPOSALS),
    "DATASETS.PROPOSAL_FILES_TEST": (((),), NO_PROPOSALS),
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": ((2000,), "set MODEL.RPN.POST_NMS_TOPK_TRAIN instead"),
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": ((1000,), "set MODEL.RPN.POST_NMS_TOPK_TEST instead"),
    "SOLVER.MOMENTUM": ((0.9,), "LARS, which SOLVER.OPTIMIZER may be, has this one, and AdamW has SOLVER.BETAS"),
    "SOLVER.NESTEROV": ((False,), OTHER_OPTIMIZER),
    "SOLVER.BIAS_LR_FACTOR": ((1.0,), "biases learn at the rate of their layer, for which SOLVER.LAYER_DECAY is"),
    "SOLVER.WEIGHT_DECAY_NORM": ((0.0,), UNDECAYED),
    "SOLVER.WEIGHT_DECAY_BIAS": ((None, 0.0), UNDECAYED),
    "SOLVER.NUM_DECAYS": ((3,), "set SOLVER.STEPS or SOLVER.STEP_FRACTIONS instead"),
    "SOLVER.REFERENCE_WORLD_SIZE": ((0,), "set SOLVER.REFERENCE_BATCH_SIZE, for which the rate is, instead"),
    "TEST.PRECISE_BN.ENABLED": ((False,), NO_NORM_STATISTICS),
    "TEST.PRECISE_BN.NUM_ITER": ((200,), NO_NORM_STATISTICS),
    "TEST.KEYPOINT_OKS_SIGMAS": (([],), "boxes and masks are evaluated, keypoints are not"),
    "GLOBAL.HACK": ((1.0,), "nothing reads it"),
}

# The same with a backbone of ours; another, which the user has chosen, may read them.
UNUSED_WITH_CONVMAE: dict[str, tuple[tuple[Any, ...], str]] = {
    "MODEL.BACKBONE.FREEZE_AT": ((0,), "set MODEL.CONVMAE.FREEZE_STAGES instead"),
    "MODEL.RESNETS.DEPTH": ((50,), NO_RESNET),
    "MODEL.RESNETS.OUT_FEATURES": ((["res4"],), "set MODEL.CONVMAE.OUT_FEATURES instead"),
    "MODEL.RESNETS.NUM_GROUPS": ((1,), NO_RESNET),
    "MODEL.RESNETS.NORM": (("FrozenBN",), NO_RESNET),
    "MODEL.RESNETS.WIDTH_PER_GROUP": ((64,), NO_RESNET),
    "MODEL.RESNETS.STRIDE_IN_1X1": ((True,), NO_RESNET),
    "MODEL.RESNETS.RES5_DILATION": ((1,), NO_RESNET),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": ((256,), NO_RESNET),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": ((64,), NO_RESNET),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": (([False, False, False, False],), NO_RESNET),
    "MODEL.RESNETS.DEFORM_MODULATED": ((False,), NO_RESNET),
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": ((1,), NO_RESNET),
}

OF_BACKBONES = ("IMAGE_SIZE", "GLOBAL_BLOCKS", "WINDOW_", "RELATIVE_POSITION", "OUT_FEATURES", "SQUARE_PAD")
OF_BACKBONES = tuple(f"MODEL.CONVMAE.{name}" for name in (*OF_BACKBONES, "FREEZE_STAGES"))
OF_SHORTEST_EDGES = ("INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN")
ARCHITECTURE, WITH_BACKBONES = "MODEL.META_ARCHITECTURE", (*DETECTORS, SEGMENTOR)
OF_OBJECTS = tuple(f"DATALOADER.{name}" for name in ("SAMPLER_TRAIN", "REPEAT_", "ASPECT_", "FILTER_"))
OF_OBJECTS += ("TEST.DETECTIONS_PER_IMAGE", "INPUT.TILE", "INPUT.EMPTY_TILES", "TEST.TILE")
OF_FPN_HEADS = tuple(f"MODEL.SEM_SEG_HEAD.{name}" for name in ("IN_FEATURES", "COMMON_STRIDE", "NORM"))
OF_SEGMENTS = ("DATASETS.PANOPTIC", "DATASETS.STUFF_CATEGORIES")
OF_EVALUATIONS = tuple(f"TEST.{name}" for name in ("BEST_METRIC", "EVAL_", "EXPECTED_", "PATIENCE", "PRECISION"))

# How keys begin that do something only where another key has one of some values.
PARTS: tuple[tuple[tuple[str, ...], str, tuple[Any, ...]], ...] = (
    (
        ("MODEL.MAE.", "INPUT.PRETRAIN_CROP_SCALE", "TEST.PROBE", "DATASETS.SHARD"),
        "MODEL.META_ARCHITECTURE",
        (AUTOENCODER,),
    ),
    (("MODEL.CLASSIFIER.", "INPUT.CLASSIFICATION."), "MODEL.META_ARCHITECTURE", (CLASSIFIER,)),
    (("VIS_PERIOD",), "MODEL.META_ARCHITECTURE", (*DETECTORS, AUTOENCODER)),
    (OF_EVALUATIONS, "MODEL.META_ARCHITECTURE", (*DETECTORS, CLASSIFIER, SEGMENTOR)),
    (("MODEL.FPN.", *OF_BACKBONES, "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"), ARCHITECTURE, WITH_BACKBONES),
    (("MODEL.CONVMAE.PAD_VALUE", "MODEL.ANCHOR_GENERATOR."), "MODEL.META_ARCHITECTURE", DETECTORS),
    (("INPUT.LSJ.", "INPUT.CROP.", *OF_SHORTEST_EDGES), "MODEL.META_ARCHITECTURE", DETECTORS),
    (("INPUT.SEGMENTATION.", "DATASETS.SEMANTIC", "TEST.SLIDING_"), "MODEL.META_ARCHITECTURE", (SEGMENTOR,)),
    (("INPUT.MASK_FORMAT", "TEST.AUG.", *OF_OBJECTS), "MODEL.META_ARCHITECTURE", DETECTORS),
    (("MODEL.RETINANET.",), "MODEL.META_ARCHITECTURE", ("RetinaNet",)),
    (("MODEL.SEM_SEG_HEAD.",), "MODEL.META_ARCHITECTURE", (PANOPTIC, SEGMENTOR)),
    (("MODEL.PANOPTIC_FPN.", *OF_SEGMENTS), "MODEL.META_ARCHITECTURE", (PANOPTIC,)),
    (("MODEL.UPERNET.",), "MODEL.SEM_SEG_HEAD.NAME", ("UPerHead",)),
    (OF_FPN_HEADS, "MODEL.SEM_SEG_HEAD.NAME", ("SemSegFPNHead",)),
    (("MODEL.RPN.", "MODEL.ROI_HEADS.", "MODEL.ROI_BOX_HEAD."), "MODEL.META_ARCHITECTURE", DETECTORS[:2]),
    (("MODEL.PROPOSAL_GENERATOR.",), "MODEL.META_ARCHITECTURE", DETECTORS[:2]),
    (("MODEL.ROI_HEADS.SOFT_NMS.SIGMA",), "MODEL.ROI_HEADS.SOFT_NMS.METHOD", ("gaussian",)),
    (("MODEL.ROI_BOX_CASCADE_HEAD.",), "MODEL.ROI_HEADS.NAME", ("CascadeROIHeads",)),
    (("MODEL.ROI_BOX_HEAD.FED_LOSS_",), "MODEL.ROI_BOX_HEAD.USE_FED_LOSS", (True,)),
    (("MODEL.ROI_MASK_HEAD.", "INPUT.MASK_FORMAT"), "MODEL.MASK_ON", (True,)),
    (("MODEL.ROI_KEYPOINT_HEAD.",), "MODEL.KEYPOINT_ON", (True,)),
    (("INPUT.LSJ.",), "INPUT.LSJ.ENABLED", (True,)),
    (("INPUT.CROP.",), "INPUT.CROP.ENABLED", (True,)),
    (("DATALOADER.REPEAT_SQRT",), "DATALOADER.SAMPLER_TRAIN", ("RepeatFactorTrainingSampler",)),
    (("SOLVER.GAMMA", "SOLVER.STEP"), "SOLVER.LR_SCHEDULER_NAME", ("WarmupMultiStepLR",)),
    (("SOLVER.POLY_POWER",), "SOLVER.LR_SCHEDULER_NAME", ("WarmupPolyLR",)),
    (("SOLVER.BASE_LR_END",), "SOLVER.LR_SCHEDULER_NAME", ("WarmupCosineLR",)),
    (("SOLVER.BETAS",), "SOLVER.OPTIMIZER", ("AdamW",)),
    (("SOLVER.CLIP_GRADIENTS.",), "SOLVER.CLIP_GRADIENTS.ENABLED", (True,)),
    (("SOLVER.AMP.",), "SOLVER.AMP.ENABLED", (True,)),
    (("TEST.AUG.",), "TEST.AUG.ENABLED", (True,)),
    (("INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"), "TEST.AUG.ENABLED", (False,)),
)

# Keys that do nothing where another is 0.
OF_NUMBERS = {"TEST.TILE_OVERLAP": "TEST.TILE"}


def find_idle_keys(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Finds keys that were changed though another key switches them off.

    Args:
        values: of all keys, by their dotted names
        defaults: the same before a user changed any

    Yields:
        "KEY is for OTHER VALUE", for each of them
    """
    for beginnings, other, needed in PARTS:
        for key in values if values[other] not in needed else ():
            if key.startswith(beginnings) and key != other and not is_same(values[key], defaults[key]):
                yield f"{key} is for {other} {' or '.join(map(str, needed))}"
    for key, other in OF_NUMBERS.items():
        if values[other] == 0 and not is_same(values[key], defaults[key]):
            yield f"{key} is for {other} above 0"


def list_unused(cfg: CfgNode) -> dict[str, tuple[tuple[Any, ...], str]]:
    """Lists the keys that nothing reads with this configuration, as UNUSED does."""
    ours = str(cfg.MODEL.BACKBONE.NAME).startswith("build_convmae_")
    return UNUSED | (UNUSED_WITH_CONVMAE if ours else {})
