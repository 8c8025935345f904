"""Every key that ConvMAE adds to Detectron2's configuration, and the defaults of Detectron2's own that it changes.

``get_cfg()`` followed by :func:`add_convmae_config` gives a configuration from which ``build_model`` builds a Mask
R-CNN on ConvMAE base; a YAML file then only says what differs.
"""

import importlib
import os
import warnings

import torch
from yacs.config import CfgNode

from .checks.data import MAX_PIXELS

NETWORKS = tuple(f"convmae_det.modeling.{name}" for name in ("backbone", "masked_autoencoder", "classifier", "upernet"))
# Detectron2 knows them once they are imported.


def add_convmae_config(cfg: CfgNode) -> None:
    """Adds the keys below to `cfg`, in place, and registers the networks that they describe with Detectron2.

    The recipe's numbers are those of arXiv 2205.03892.
    """
    _register_networks()
    _add_encoder(cfg)
    _add_masked_autoencoder(cfg)
    _add_classifier(cfg)
    _add_segmentor(cfg)
    _add_input(cfg)
    _add_data(cfg)
    _add_solver(cfg)
    _add_evaluation(cfg)
    _add_loggers(cfg)
    _set_detector_defaults(cfg)


def _register_networks() -> None:
    """Imports NETWORKS, by name and only now, because config/ must not depend on modeling/."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's, about Detectron2's code
        for module in NETWORKS:
            importlib.import_module(module)


def _add_encoder(cfg: CfgNode) -> None:
    node = cfg.MODEL.CONVMAE = type(cfg)()
    node.ARCH = "base"  # tiny, small, base, large or huge: widths, depths, heads and MLP ratios of the three stages
    node.EMBED_DIMS = []  # three channel widths C1 C2 C3; empty: those of ARCH
    node.DEPTHS = []  # three block counts; empty: those of ARCH
    node.NUM_HEADS = 0  # attention heads of stage 3; 0: those of ARCH
    node.MLP_RATIOS = []  # hidden width of the MLPs of stages 1, 2, 3 as a multiple of the width; empty: those of ARCH
    node.CONV_KERNEL_SIZE = 5  # side in tokens of the depthwise convolutions of stages 1 and 2; odd
    node.DROP_PATH_RATE = 0.0  # stochastic depth: rate of the last block, rising linearly from 0 at the first
    node.ADAPT_CHANNELS = False  # MODEL.WEIGHTS may be of other channels (RGB): the first layer repeats or adds them
    node.ACTIVATION_CHECKPOINT = False  # recompute each block in the backward pass: less memory, about 30 % more time
    node.PRETRAIN_IMAGE_SIZE = 224  # pixels, square: crop in pretraining and classification, and the grid of their
    # position embedding; [height, width]: crops of pretraining that are not square
    # The rest concerns the detector alone.
    node.IMAGE_SIZE = 1024  # pixels, square: the size that the detector's position tables are built for
    node.GLOBAL_BLOCKS = []  # stage-3 blocks with global attention, counted from 0; empty: four, evenly spaced, but all
    # of them with RELATIVE_POSITION blocks
    node.WINDOW_SIZE = 7  # side in stage-3 tokens of the windows of all other blocks
    node.WINDOW_SHIFT = True  # every second local block moves its windows by half their size
    node.RELATIVE_POSITION = "shared"  # shared (two tables for all blocks), blocks (a table for each, as the published
    # UPerNet), decomposed (as ViTDet's, each block), none
    node.OUT_FEATURES = ["e1", "e2", "e3", "e4"]  # strides 4, 8, 16, 32
    node.SQUARE_PAD = 0  # pixels: pad every image to this square; 0: to that of INPUT.LSJ.IMAGE_SIZE in training, and
    # elsewhere only to a multiple of 32: a smaller image has the positions that training showed it
    node.PAD_VALUE = -1.0  # grey level of 0–255 to pad with before normalisation; below 0: zeros after it
    node.FREEZE_STAGES = 0  # 0..3: this many first stages, with their embeddings, are not trained

    cfg.MODEL.COMPILE = None  # torch.compile the encoder, and the decoder of pretraining: faster after a slow start;
    # True, False, or auto (None, so that plain merges take any of these): in training on a GPU


def _add_masked_autoencoder(cfg: CfgNode) -> None:
    node = cfg.MODEL.MAE = type(cfg)()
    node.MASK_RATIO = 0.75  # share of the stage-3 tokens (random masking: of the stage-1 tokens) that is hidden
    node.MASKING = "block"  # block (all three stages hide the same 16×16 pixel blocks), random (4×4 pixel blocks)
    node.MASKED_CONV = True  # zero the depthwise convolutions' input at hidden tokens, so that none leaks
    node.COMPLEMENTARY_MASKS = False  # every step sees 1/(1−ratio) disjoint visible sets of each image (FastConvMAE)
    node.MULTI_SCALE_DECODER = True  # the decoder sees E1 and E2 too, not only E3
    node.DECODER_EMBED_DIM = 512
    node.DECODER_DEPTH = 8  # transformer blocks
    node.DECODER_NUM_HEADS = 16
    node.DECODER_MLP_RATIO = 0  # 0: the ratio of the encoder's stage 1, as in the published code
    node.NORM_PIX_LOSS = True  # targets are normalised by each patch's own mean and variance


def _add_classifier(cfg: CfgNode) -> None:
    node = cfg.MODEL.CLASSIFIER = type(cfg)()
    node.NUM_CLASSES = 1000
    node.PROBE = False  # linear probe: the encoder is frozen, and a batch norm without parameters precedes the head
    node.LABEL_SMOOTHING = 0.0  # share of each target that all classes have in equal parts


def _add_segmentor(cfg: CfgNode) -> None:
    cfg.MODEL.UPERNET = type(cfg)()  # MODEL.SEM_SEG_HEAD.NAME UPerHead, whose channels are MODEL.SEM_SEG_HEAD.CONVS_DIM
    cfg.MODEL.UPERNET.AUXILIARY_DIM = 256  # channels of the head on E3 that training has beside it; 0: without


def _add_input(cfg: CfgNode) -> None:
    cfg.INPUT.FORMAT = "RGB"  # RGB, BGR, L (grey), RGBA, or bands: as the file has them (TIFF, .npy), one an entry of
    # MODEL.PIXEL_MEAN
    cfg.INPUT.SHOWN_BANDS = []  # of INPUT.FORMAT bands: the three that pictures show as red, green and blue, or the one
    # that they show as grey, counted from 0; empty: the first three, or the first
    cfg.INPUT.WHITE_LEVEL = 0  # white in integers of more than 8 bits, such as 4095; 0: found from DATASETS.TRAIN
    cfg.INPUT.IGNORE_EXIF = False  # leave photos as they are stored, not turned as their EXIF orientation says
    cfg.INPUT.MAX_PIXELS = MAX_PIXELS  # height · width of the largest image that is read, against memory bombs
    cfg.INPUT.ALL_PAGES = False  # pretraining: every page or frame of a file is an image, not the first alone
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]  # ImageNet, RGB, of 255; the number of entries sets the channels
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    cfg.INPUT.CLASSIFICATION = type(cfg)()  # of images with a class each; in training INPUT.RANDOM_FLIP, too
    cfg.INPUT.CLASSIFICATION.CROP_SCALE = [0.08, 1.0]  # smallest and largest area of the crop, as shares of the image's
    cfg.INPUT.CLASSIFICATION.RAND_AUGMENT = ""  # RandAugment in timm's words, such as rand-m9-mstd0.5-inc1; empty: none
    cfg.INPUT.CLASSIFICATION.RANDOM_ERASING = 0.0  # share of the images of which a rectangle is replaced by noise
    cfg.INPUT.CLASSIFICATION.MIXUP = 0.0  # parameter of the beta distribution by which two images are blended; 0: none
    cfg.INPUT.CLASSIFICATION.CUTMIX = 0.0  # the same for a rectangle of another image; with both, either by chance
    cfg.INPUT.CLASSIFICATION.TEST_CROP = 0.875  # side of the square that is evaluated, as a share of the shorter side
    cfg.INPUT.SEGMENTATION = type(cfg)()  # of images with masks, in training beside INPUT.RANDOM_FLIP
    cfg.INPUT.SEGMENTATION.CROP_SIZE = 512  # pixels: side of the square crop; what is smaller is padded
    cfg.INPUT.SEGMENTATION.MIN_SCALE = 0.5  # the shorter side of the image becomes this share of the crop's ...
    cfg.INPUT.SEGMENTATION.MAX_SCALE = 2.0  # ... up to this one
    cfg.INPUT.SEGMENTATION.MAX_CLASS_SHARE = 0.75  # of the crop that one class may have, if ten draws allow; 1: any
    cfg.INPUT.SEGMENTATION.PHOTOMETRIC = True  # brightness, contrast, saturation and hue are changed at random
    cfg.INPUT.LSJ = type(cfg)()
    cfg.INPUT.LSJ.ENABLED = True  # large-scale jitter, with which INPUT.MIN_SIZE_TRAIN and CROP stay unset
    cfg.INPUT.LSJ.IMAGE_SIZE = 1024  # pixels: side of the square crop
    cfg.INPUT.LSJ.MIN_SCALE = 0.1  # the image is resized to this share of the crop ...
    cfg.INPUT.LSJ.MAX_SCALE = 2.0  # ... up to this one
    cfg.INPUT.TILE = 0  # pixels: side of the tiles of large images that a detector is trained on; 0: on whole images
    cfg.INPUT.TILE_OVERLAP = 0.2  # least share of a tile's side that neighbours have in common
    cfg.INPUT.TILE_VISIBLE = 0.25  # share of an object that a tile must show for it to be learned there
    cfg.INPUT.EMPTY_TILES = 0.1  # tiles without an object, as a share of those with one, that are trained on, too
    cfg.INPUT.MIN_SIZE_TEST = 1024  # pixels: shorter side at test time,
    cfg.INPUT.MAX_SIZE_TEST = 1024  # as long as the longer side stays below this
    cfg.DATALOADER.NUM_WORKERS = min(4, os.cpu_count() or 1)  # readers of images beside each process, a number that
    # Detectron2's own loaders take, too; auto (-1), which `read_config` sets: the cores for each process on the machine
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False  # every crop has the same shape; grouping would reorder the data


def _add_data(cfg: CfgNode) -> None:
    cfg.DATASETS.COCO_FORMAT = []  # [[name, annotations.json, image folder], ...]: data sets for TRAIN and TEST to name
    cfg.DATASETS.CATEGORIES = []  # [[id, name], ...] of the model's classes; empty: those of the data, by rising id
    cfg.DATASETS.CROWD_AS_OBJECTS = False  # take annotations with "iscrowd": 1 as objects, as CVAT's brush writes them
    cfg.DATASETS.TRAIN_SHARE = 1.0  # the part of TRAIN that training sees, chosen by SEED; an epoch is that many images
    cfg.DATASETS.IMAGE_FOLDERS = []  # [[name, folder], ...]: images without labels, flat or nested, for TRAIN to name
    cfg.DATASETS.SHARDS = []  # [[name, path/{000..099}.tar], ...]: tar files of such images, here or in a store (s3://,
    # gs://, https://), for TRAIN to name; several paths are a list
    cfg.DATASETS.SHARD_CACHE = ""  # folder for copies of shards that lie in a store; empty: one in the user's cache
    cfg.DATASETS.CLASS_FOLDERS = []  # [[name, folder of classes or CSV file], ...]: images with a class each, for TRAIN
    # and TEST of a classifier to name; its DATASETS.CATEGORIES are [[0, name], [1, name], ...]
    cfg.DATASETS.SEMANTIC = []  # [[name, image folder, mask folder, classes], ...]: images and masks with the number of
    # a class at each pixel, classes being a list of names or a file with one a line, for TRAIN and TEST of a segmentor
    cfg.DATASETS.PANOPTIC = []  # [[name, image folder, panoptic.json, folder of PNGs], ...]: data sets in COCO's
    # panoptic format for TRAIN and TEST of a PanopticFPN to name
    cfg.DATASETS.STUFF_CATEGORIES = []  # [[id, name], ...] of what a PanopticFPN doesn't count, sky or road, beside
    # CATEGORIES, which it does; empty: those of the data, by rising id
    cfg.INPUT.PRETRAIN_CROP_SCALE = [0.2, 1.0]  # smallest and largest area of the crop, as shares of the image


def _add_solver(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    solver.MAX_EPOCHS = 25  # passes over DATASETS.TRAIN
    solver.MAX_ITER = 0  # iterations; above 0 it wins over MAX_EPOCHS, unless that is set later (on the command line)
    solver.IMAGES_PER_EPOCH = 0  # of a run's config.yaml, whose epochs stay what they were; 0: those of DATASETS.TRAIN
    solver.STEP_FRACTIONS = [8 / 9, 26 / 27]  # WarmupMultiStepLR: where in training the rate is multiplied by GAMMA
    solver.STEPS = ()  # iterations; not empty: wins over STEP_FRACTIONS
    solver.WARMUP_EPOCHS = 0  # passes over DATASETS.TRAIN; above 0 it wins over WARMUP_ITERS
    solver.WARMUP_ITERS = 250
    solver.IMS_PER_BATCH = 16  # images in one optimizer step, over all processes and accumulation steps; auto (-1): as
    # many as fit one pass of each process, but no more than REFERENCE_BATCH_SIZE, found by trial passes once for a run
    solver.ACCUMULATION_STEPS = 1  # run the batch in this many equal parts, gradients averaged; 0: the least number ...
    solver.MAX_IMS_PER_PASS = 0  # ... with at most this many images in one pass of a process; 0: no limit; auto (-1):
    # as many as fit the memory, found by trial passes once for a run, on a CPU at most 64
    solver.REFERENCE_BATCH_SIZE = 16  # BASE_LR is for this many images and scales with IMS_PER_BATCH; 0: not scaled
    solver.BASE_LR = 1e-4
    solver.BASE_LR_END = 0.0  # WarmupCosineLR: the final rate
    solver.POLY_POWER = 1.0  # WarmupPolyLR: the rate falls as the part of training that is left, to this power
    solver.OPTIMIZER = "AdamW"  # AdamW, or LARS with a momentum of 0.9, for linear probes on large batches
    solver.BETAS = [0.9, 0.999]  # AdamW
    solver.WEIGHT_DECAY = 0.1  # not on biases, norms, position tables and tokens
    solver.LAYER_DECAY = 1.0  # rate of each encoder layer relative to the one above it
    solver.LORA_RANK = 0  # above 0, such as 16: instead of the encoder, adapters of this rank (LoRA) beside the linear
    # layers of its blocks are trained, in the stages that MODEL.CONVMAE.FREEZE_STAGES leaves, and relative positions
    solver.EMA = type(cfg)()
    solver.EMA.DECAY = 0.0  # above 0, such as 0.9999: also keep, evaluate and save a moving average of the weights
    solver.MAX_TO_KEEP = 0  # checkpoints of CHECKPOINT_PERIOD, the newest; older ones are deleted; 0: all are kept
    solver.PROCESS_TIMEOUT = 1800  # seconds that a process waits for another before it ends the run
    solver.AMP.DTYPE = "auto"  # of autocast where SOLVER.AMP.ENABLED: bfloat16; float16 with loss scaling (GPU); auto:
    # bfloat16 where device and processor have instructions for it, else float16 on a GPU, else float32 throughout


def _add_evaluation(cfg: CfgNode) -> None:
    test = cfg.TEST  # its EVAL_PERIOD, in iterations: 0 evaluates at the end alone
    test.EVAL_EPOCHS = 0.0  # evaluate after every so many passes over DATASETS.TRAIN; above 0 it wins over EVAL_PERIOD
    test.BEST_METRIC = ""  # chooses model_best.pth: bbox/AP50, ema/segm/AP, top1, ... of metrics.json; empty: mask
    # (box) AP, top1 of a classifier, sem_seg/mIoU of a segmentor, and panoptic_seg/PQ of a PanopticFPN
    test.PRECISION = "trained"  # of evaluation and prediction: auto, float32, bfloat16, float16 (GPU), as for training,
    # or trained: what SOLVER.AMP means on this machine, but no type that it would have to emulate
    test.PROBE = []  # [[name, train, test], ...] folders of classes or CSV files that pretraining measures features on
    test.PROBE_EPOCHS = 0.0  # probe after every so many passes over DATASETS.TRAIN, and at the end; above 0, even
    # without PROBE, also rank the features of training images
    test.SLIDING_WINDOW = 0  # pixels: side of the windows that a segmentor takes an image in; 0: it takes it whole
    test.SLIDING_STRIDE = 341  # pixels from one window to the next; where they overlap, their logits are averaged
    test.TILE = -1  # pixels: side of the tiles that a detector takes large images in, and merges what it finds; 0: it
    # takes them whole; auto (-1): INPUT.TILE
    test.TILE_OVERLAP = 0.2  # least share of a tile's side that neighbours have in common
    test.PATIENCE = 0  # end training after this many evaluations in a row without a better BEST_METRIC; 0: never


def _add_loggers(cfg: CfgNode) -> None:
    cfg.LOGGERS = ["tensorboard"]  # what gets numbers and pictures beside metrics.json: tensorboard, wandb, mlflow
    cfg.LOG_WEIGHTS = False  # wandb and mlflow also get model_final.pth, at the end


def _set_detector_defaults(cfg: CfgNode) -> None:
    """Sets a Mask R-CNN on the four-scale features, with LayerNorm throughout (paper, section 4.2; ViTDet's heads)."""
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # the scripts also take "auto"
    cfg.FLOAT32_PRECISION = ""  # of what a GPU multiplies in float32: high (TF32), medium, highest; empty: high
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.BACKBONE.NAME = "build_convmae_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.IN_FEATURES = ["e1", "e2", "e3", "e4"]
    cfg.MODEL.FPN.NORM = "LN"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.CONV_DIMS = [-1, -1]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = 2000
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 1000
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 1000
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 1000
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.SOFT_NMS = type(cfg)()
    cfg.MODEL.ROI_HEADS.SOFT_NMS.METHOD = (
        ""  # boxes that overlap better ones of their class get lower scores instead of
    )
    # going: linear, from an overlap of NMS_THRESH_TEST on; gaussian, all; empty: they go
    cfg.MODEL.ROI_HEADS.SOFT_NMS.SIGMA = 0.5  # gaussian: scores are multiplied by exp(−IoU²/SIGMA)
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_CONV = 4
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.NORM = "LN"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 4
    cfg.MODEL.ROI_MASK_HEAD.NORM = "LN"
    cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 14
    cfg.DATASETS.TRAIN = ("coco_2017_train",)
    cfg.DATASETS.TEST = ("coco_2017_val",)
