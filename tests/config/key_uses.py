"""What each key of the configuration is used by: of modules, the groups of keys that they read, by their names.

A key stands with one of its readers. What nothing reads is refused: convmae_det/config/unused.py.
"""

# Modules of Detectron2 that read these keys while they build what tests/config/test_key_uses.py builds.
DETECTRON2 = {
    "detectron2.modeling.meta_arch.build": {"MODEL": "META_ARCHITECTURE DEVICE"},
    "detectron2.modeling.meta_arch.rcnn": {"MODEL": "PIXEL_MEAN PIXEL_STD", "INPUT": "FORMAT", "": "VIS_PERIOD"},
    "detectron2.modeling.backbone.build": {"MODEL.BACKBONE": "NAME"},
    "detectron2.modeling.anchor_generator": {"MODEL.ANCHOR_GENERATOR": "NAME SIZES ASPECT_RATIOS OFFSET"},
    "detectron2.modeling.proposal_generator.build": {"MODEL.PROPOSAL_GENERATOR": "NAME"},
    "detectron2.modeling.proposal_generator.rpn": {
        "MODEL.PROPOSAL_GENERATOR": "MIN_SIZE",
        "MODEL.RPN": "HEAD_NAME IN_FEATURES BOUNDARY_THRESH IOU_THRESHOLDS IOU_LABELS BATCH_SIZE_PER_IMAGE "
        "POSITIVE_FRACTION BBOX_REG_LOSS_TYPE BBOX_REG_LOSS_WEIGHT BBOX_REG_WEIGHTS SMOOTH_L1_BETA LOSS_WEIGHT "
        "PRE_NMS_TOPK_TRAIN PRE_NMS_TOPK_TEST POST_NMS_TOPK_TRAIN POST_NMS_TOPK_TEST NMS_THRESH CONV_DIMS",
    },
    "detectron2.modeling.roi_heads.roi_heads": {
        "MODEL": "MASK_ON KEYPOINT_ON",
        "MODEL.ROI_HEADS": "NAME NUM_CLASSES IN_FEATURES IOU_THRESHOLDS IOU_LABELS BATCH_SIZE_PER_IMAGE "
        "POSITIVE_FRACTION PROPOSAL_APPEND_GT",
        "MODEL.ROI_BOX_HEAD": "POOLER_RESOLUTION POOLER_SAMPLING_RATIO POOLER_TYPE TRAIN_ON_PRED_BOXES",
        "MODEL.ROI_MASK_HEAD": "POOLER_RESOLUTION POOLER_SAMPLING_RATIO POOLER_TYPE",
        "MODEL.ROI_KEYPOINT_HEAD": "POOLER_RESOLUTION POOLER_SAMPLING_RATIO POOLER_TYPE",
    },
    "detectron2.modeling.roi_heads.fast_rcnn": {
        "MODEL.ROI_HEADS": "SCORE_THRESH_TEST NMS_THRESH_TEST",
        "MODEL.ROI_BOX_HEAD": "BBOX_REG_LOSS_TYPE BBOX_REG_LOSS_WEIGHT BBOX_REG_WEIGHTS SMOOTH_L1_BETA "
        "CLS_AGNOSTIC_BBOX_REG USE_FED_LOSS USE_SIGMOID_CE FED_LOSS_NUM_CLASSES",
        "TEST": "DETECTIONS_PER_IMAGE",
    },
    "detectron2.modeling.roi_heads.box_head": {"MODEL.ROI_BOX_HEAD": "NAME NUM_FC FC_DIM NUM_CONV CONV_DIM NORM"},
    "detectron2.modeling.roi_heads.cascade_rcnn": {"MODEL.ROI_BOX_CASCADE_HEAD": "BBOX_REG_WEIGHTS IOUS"},
    "detectron2.modeling.roi_heads.mask_head": {"MODEL.ROI_MASK_HEAD": "NAME NUM_CONV CONV_DIM NORM CLS_AGNOSTIC_MASK"},
    "detectron2.modeling.roi_heads.keypoint_head": {
        "MODEL.ROI_KEYPOINT_HEAD": "NAME CONV_DIMS NUM_KEYPOINTS NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS LOSS_WEIGHT"
    },
    "detectron2.modeling.meta_arch.semantic_seg": {
        "MODEL.SEM_SEG_HEAD": "NAME IN_FEATURES IGNORE_VALUE NUM_CLASSES CONVS_DIM COMMON_STRIDE NORM LOSS_WEIGHT"
    },
    "detectron2.modeling.meta_arch.panoptic_fpn": {
        "MODEL.PANOPTIC_FPN": "INSTANCE_LOSS_WEIGHT",
        "MODEL.PANOPTIC_FPN.COMBINE": "ENABLED OVERLAP_THRESH STUFF_AREA_LIMIT INSTANCES_CONFIDENCE_THRESH",
    },
    "detectron2.modeling.meta_arch.retinanet": {
        "MODEL.RETINANET": "NUM_CLASSES IN_FEATURES NUM_CONVS IOU_THRESHOLDS IOU_LABELS PRIOR_PROB SCORE_THRESH_TEST "
        "TOPK_CANDIDATES_TEST NMS_THRESH_TEST BBOX_REG_WEIGHTS FOCAL_LOSS_GAMMA FOCAL_LOSS_ALPHA SMOOTH_L1_LOSS_BETA "
        "BBOX_REG_LOSS_TYPE NORM"
    },
    "detectron2.data.detection_utils": {
        "INPUT": "MIN_SIZE_TRAIN MIN_SIZE_TRAIN_SAMPLING MAX_SIZE_TRAIN MIN_SIZE_TEST MAX_SIZE_TEST RANDOM_FLIP"
    },
    "detectron2.data.dataset_mapper": {"INPUT": "MASK_FORMAT"},
    "detectron2.modeling.test_time_augmentation": {"TEST.AUG": "MIN_SIZES MAX_SIZE FLIP"},
    "detectron2.solver.build": {
        "SOLVER": "LR_SCHEDULER_NAME BASE_LR_END GAMMA WARMUP_FACTOR WARMUP_METHOD RESCALE_INTERVAL"
    },
}

# Other modules; what they read depends on data and on the course of a training.
OTHERS = {
    "detectron2.engine.defaults": {"TEST": "EXPECTED_RESULTS"},
    "detectron2.modeling.roi_heads.fast_rcnn": {"MODEL.ROI_BOX_HEAD": "FED_LOSS_FREQ_WEIGHT_POWER"},
    "convmae_det.config.building": {
        "MODEL.CONVMAE": "ARCH EMBED_DIMS DEPTHS NUM_HEADS MLP_RATIOS CONV_KERNEL_SIZE DROP_PATH_RATE "
        "ACTIVATION_CHECKPOINT PRETRAIN_IMAGE_SIZE IMAGE_SIZE GLOBAL_BLOCKS WINDOW_SIZE WINDOW_SHIFT RELATIVE_POSITION "
        "OUT_FEATURES SQUARE_PAD FREEZE_STAGES",
        "MODEL.MAE": "MASK_RATIO MASKING MASKED_CONV COMPLEMENTARY_MASKS MULTI_SCALE_DECODER DECODER_EMBED_DIM "
        "DECODER_DEPTH DECODER_NUM_HEADS DECODER_MLP_RATIO NORM_PIX_LOSS",
        "MODEL.CLASSIFIER": "NUM_CLASSES PROBE LABEL_SMOOTHING",
        "MODEL.UPERNET": "AUXILIARY_DIM",
        "MODEL.FPN": "IN_FEATURES OUT_CHANNELS NORM FUSE_TYPE",
    },
    "convmae_det.inference.model": {
        "": "FLOAT32_PRECISION",
        "MODEL": "COMPILE",
        "MODEL.CONVMAE": "PAD_VALUE",
        "MODEL.ROI_HEADS.SOFT_NMS": "METHOD SIGMA",
    },
    "convmae_det.inference.augmentation": {"TEST.AUG": "ENABLED"},
    "convmae_det.data.detection.jitter": {
        "INPUT.LSJ": "ENABLED IMAGE_SIZE MIN_SCALE MAX_SCALE",
        "INPUT.CROP": "ENABLED TYPE SIZE",
    },
    "convmae_det.data.pretraining.loader": {"INPUT": "ALL_PAGES", "DATASETS": "IMAGE_FOLDERS SHARDS SHARD_CACHE"},
    "convmae_det.data.pretraining.mapper": {"INPUT": "PRETRAIN_CROP_SCALE"},
    "convmae_det.data.classification.data_sets": {"DATASETS": "CLASS_FOLDERS"},
    "convmae_det.data.classification.mapper": {
        "INPUT.CLASSIFICATION": "CROP_SCALE RAND_AUGMENT RANDOM_ERASING TEST_CROP"
    },
    "convmae_det.data.classification.mixing": {"INPUT.CLASSIFICATION": "MIXUP CUTMIX"},
    "convmae_det.data.segmentation.data_sets": {"DATASETS": "SEMANTIC"},
    "convmae_det.data.segmentation.mapper": {
        "INPUT.SEGMENTATION": "CROP_SIZE MIN_SCALE MAX_SCALE MAX_CLASS_SHARE PHOTOMETRIC"
    },
    "convmae_det.inference.sliding": {"TEST": "SLIDING_WINDOW SLIDING_STRIDE"},
    "convmae_det.data.image": {"INPUT": "SHOWN_BANDS WHITE_LEVEL IGNORE_EXIF MAX_PIXELS"},
    "convmae_det.data.detection.catalog": {
        "DATASETS": "COCO_FORMAT CROWD_AS_OBJECTS PANOPTIC",
        "DATALOADER": "FILTER_EMPTY_ANNOTATIONS",
        "MODEL.ROI_KEYPOINT_HEAD": "MIN_KEYPOINTS_PER_IMAGE",
    },
    "convmae_det.data.detection.tiling": {"INPUT": "TILE TILE_OVERLAP TILE_VISIBLE EMPTY_TILES"},
    "convmae_det.inference.tiling": {"TEST": "TILE_OVERLAP"},
    "convmae_det.config.checks.tiles": {"TEST": "TILE"},
    "convmae_det.data.detection.categories": {"DATASETS": "CATEGORIES STUFF_CATEGORIES"},
    "convmae_det.data.detection.loader": {
        "DATASETS": "TRAIN TEST",
        "DATALOADER": "SAMPLER_TRAIN REPEAT_THRESHOLD REPEAT_SQRT",
    },
    "convmae_det.data.stream": {"DATALOADER": "NUM_WORKERS", "": "SEED"},
    "convmae_det.solver.schedule": {
        "SOLVER": "MAX_EPOCHS MAX_ITER IMAGES_PER_EPOCH STEP_FRACTIONS STEPS WARMUP_EPOCHS WARMUP_ITERS IMS_PER_BATCH "
        "ACCUMULATION_STEPS MAX_IMS_PER_PASS REFERENCE_BATCH_SIZE POLY_POWER",
        "TEST": "EVAL_EPOCHS",
    },
    "convmae_det.solver.optimizer": {
        "SOLVER": "OPTIMIZER BASE_LR BETAS WEIGHT_DECAY LAYER_DECAY",
        "SOLVER.CLIP_GRADIENTS": "ENABLED CLIP_TYPE CLIP_VALUE NORM_TYPE",
    },
    "convmae_det.precision": {"SOLVER.AMP": "ENABLED DTYPE", "TEST": "PRECISION"},
    "convmae_det.engine.launch": {"SOLVER": "PROCESS_TIMEOUT", "": "CUDNN_BENCHMARK OUTPUT_DIR"},
    "convmae_det.engine.start": {"MODEL": "WEIGHTS", "MODEL.CONVMAE": "ADAPT_CHANNELS", "SOLVER": "LORA_RANK"},
    "convmae_det.engine.trainer": {
        "DATASETS": "TRAIN_SHARE",
        "SOLVER": "CHECKPOINT_PERIOD MAX_TO_KEEP",
        "SOLVER.EMA": "DECAY",
        "": "LOGGERS LOG_WEIGHTS",
    },
    "convmae_det.engine.evaluated_trainer": {"TEST": "EVAL_PERIOD PATIENCE"},
    "convmae_det.engine.hooks.probe": {"TEST": "PROBE"},
    "convmae_det.engine.pretraining": {"TEST": "PROBE_EPOCHS"},
    "convmae_det.engine.hooks.evaluation": {"TEST": "BEST_METRIC"},
}

# What is refused by a rule of convmae_det/config/checks/ unless it is at its default.
REFUSED = ("DATALOADER.ASPECT_RATIO_GROUPING",)


def list_keys(table: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    """Lists (module, key) of a table above."""
    return [
        (module, f"{group}.{name}" if group else name)
        for module, groups in table.items()
        for group, names in groups.items()
        for name in names.split()
    ]
