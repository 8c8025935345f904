"""Rules about SOLVER and TEST, and all that a run can be checked for before data are read."""

import importlib.util
from operator import attrgetter

from yacs.config import CfgNode

from ...errors import InputError
from ...precision import AMP_DTYPES, DTYPES, TRAINED, require_gpu
from ..architectures import has_backbone, is_autoencoder, is_classifier, is_detector, is_segmentor, needs_pairs
from ..keys import AUTO
from ..unused import list_unused
from .data import (
    check_classification_input,
    check_input,
    check_loader,
    check_names,
    check_order,
    check_pretraining_input,
    check_share,
    check_test_time_augmentation,
)
from .detections import check_detections
from .model import check_architecture, check_classifier
from .rules import are_numbers, check_above, check_at_least, check_one_of, is_number, is_rising, is_same, require
from .segmentation import check_segmentation_input, check_segmentor

SCHEDULERS = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupPolyLR")
OPTIMIZERS = ("AdamW", "LARS")
LOGGERS = ("tensorboard", "wandb", "mlflow")
CLIP_TYPES = ("value", "norm", "full_model")


def check_fine_tuning(cfg: CfgNode, processes: int) -> None:
    """Checks everything about fine-tuning a detector in `processes` that can be checked before reading data."""
    must = "be a detector, as in configs/mask_rcnn_convmae_b.yaml"
    require(is_detector(cfg), "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, must)
    _check_training(cfg, processes)
    check_architecture(cfg)
    check_detections(cfg)
    check_order(cfg)
    check_input(cfg, is_train=True)
    check_test_time_augmentation(cfg)  # also without DATASETS.TEST: the end of training evaluates on none
    _check_evaluation(cfg)
    if cfg.DATASETS.TEST:
        check_input(cfg, is_train=False)


def check_pretraining(cfg: CfgNode, processes: int) -> None:
    """Checks everything about pretraining in `processes` that can be checked before reading data."""
    must = "be MaskedAutoencoder for pretraining, as in configs/pretrain_convmae_b.yaml"
    require(is_autoencoder(cfg), "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, must)
    _check_training(cfg, processes)
    check_pretraining_input(cfg)
    _check_probes(cfg)


def check_classification(cfg: CfgNode, processes: int) -> None:
    """Checks everything about training a classifier in `processes` that can be checked before reading data."""
    must = "be ImageClassifier, as in configs/classify_convmae_b.yaml"
    require(is_classifier(cfg), "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, must)
    _check_training(cfg, processes)
    check_classifier(cfg)
    check_names("DATASETS.TRAIN", cfg.DATASETS.TRAIN)
    check_classification_input(cfg)
    _check_evaluation(cfg)
    expected = cfg.TEST.EXPECTED_RESULTS
    require(not expected, "TEST.EXPECTED_RESULTS", expected, "be empty for a classifier: Detectron2 compares AP alone")


def check_segmentation(cfg: CfgNode, processes: int) -> None:
    """Checks everything about training a segmentor in `processes` that can be checked before reading data."""
    must = "be SemanticSegmentor, as in configs/upernet_convmae_b.yaml"
    require(is_segmentor(cfg), "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, must)
    _check_training(cfg, processes)
    check_segmentor(cfg)
    check_names("DATASETS.TRAIN", cfg.DATASETS.TRAIN)
    check_segmentation_input(cfg, is_train=True)
    batch = cfg.SOLVER.IMS_PER_BATCH
    images = batch // (max(cfg.SOLVER.ACCUMULATION_STEPS, 1) * processes)
    must = "leave at least 2 images to each pass of a process, for the batch norms of UPerHead"
    require(not needs_pairs(cfg) or images >= 2 or batch == AUTO, "SOLVER.IMS_PER_BATCH", batch, must)
    _check_evaluation(cfg)
    if cfg.DATASETS.TEST:
        check_segmentation_input(cfg, is_train=False)
    expected = cfg.TEST.EXPECTED_RESULTS
    require(not expected, "TEST.EXPECTED_RESULTS", expected, "be empty for a segmentor: Detectron2 compares AP alone")


def _check_training(cfg: CfgNode, processes: int) -> None:
    _check_unused(cfg)
    check_solver(cfg)
    check_loader(cfg)
    check_share(cfg)
    if cfg.SOLVER.IMS_PER_BATCH == AUTO:
        _check_automatic_batch(cfg)
    else:
        check_batch(cfg, processes)
    _check_adapters(cfg)
    _check_loggers(cfg)


def _check_loggers(cfg: CfgNode) -> None:
    """Checks LOGGERS, and that what it names is installed."""
    names = cfg.LOGGERS
    known = isinstance(names, (list, tuple)) and all(isinstance(name, str) and name in LOGGERS for name in names)
    must = f"be a list of {', '.join(LOGGERS)}, of any or none of them, each once"
    require(known and len(set(names)) == len(names), "LOGGERS", names, must)
    for name in names:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # without one, it is the folder that its runs left here
            raise InputError(f"LOGGERS names {name}, which is not installed: run pip install {name}, or leave it out")


def _check_adapters(cfg: CfgNode) -> None:
    """Checks SOLVER.LORA_RANK, and that what it needs is installed."""
    key, rank = "SOLVER.LORA_RANK", cfg.SOLVER.LORA_RANK
    check_at_least(cfg, key, 0, ", and 0 is without adapters")
    if not rank:
        return
    require(not is_autoencoder(cfg), key, rank, "be 0 in pretraining, which trains all of the encoder")
    probes = is_classifier(cfg) and cfg.MODEL.CLASSIFIER.PROBE
    require(not probes, key, rank, "be 0 with MODEL.CLASSIFIER.PROBE True, which trains nothing of the encoder")
    frozen = has_backbone(cfg) and cfg.MODEL.CONVMAE.FREEZE_STAGES > 2
    require(not frozen, key, rank, "be 0 with MODEL.CONVMAE.FREEZE_STAGES 3, which leaves no layer of the encoder")
    if importlib.util.find_spec("peft") is None:
        raise InputError(f"{key} is {rank}, but peft is not installed: run pip install peft, or set it to 0")


def _check_unused(cfg: CfgNode) -> None:
    """Checks that no key has been changed that nothing reads."""
    for key, (values, why) in list_unused(cfg).items():
        value = attrgetter(key)(cfg)
        holds = any(is_same(value, harmless) for harmless in values)
        require(holds, key, value, f"stay {values[0]!r}, since it would change nothing: {why}")


def check_process_timeout(cfg: CfgNode) -> None:
    """Checks SOLVER.PROCESS_TIMEOUT."""
    check_above(cfg, "SOLVER.PROCESS_TIMEOUT", 0, " seconds")


def check_solver(cfg: CfgNode) -> None:
    """Checks the schedule, the optimizer, the average of the weights and mixed precision."""
    _check_length(cfg)
    _check_rates(cfg)
    decay = cfg.SOLVER.EMA.DECAY
    must = "be at least 0 and below 1, such as 0.9999; 0 averages no weights"
    require(is_number(decay) and 0 <= decay < 1, "SOLVER.EMA.DECAY", decay, must)
    check_one_of(cfg, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", CLIP_TYPES)
    check_above(cfg, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0)
    check_above(cfg, "SOLVER.CLIP_GRADIENTS.NORM_TYPE", 0)
    check_one_of(cfg, "FLOAT32_PRECISION", ("", "high", "medium", "highest"))
    check_one_of(cfg, "SOLVER.AMP.DTYPE", AMP_DTYPES)
    if cfg.SOLVER.AMP.ENABLED:
        require_gpu(cfg.SOLVER.AMP.DTYPE, cfg.MODEL.DEVICE, "SOLVER.AMP.DTYPE")


def _check_length(cfg: CfgNode) -> None:
    check_at_least(cfg, "SOLVER.MAX_ITER", 0, "; 0 leaves the length to SOLVER.MAX_EPOCHS")
    if cfg.SOLVER.MAX_ITER == 0:
        check_above(cfg, "SOLVER.MAX_EPOCHS", 0, " as long as SOLVER.MAX_ITER is 0")
    check_at_least(cfg, "SOLVER.IMAGES_PER_EPOCH", 0, "; 0 is the number in DATASETS.TRAIN")
    check_at_least(cfg, "SOLVER.WARMUP_EPOCHS", 0)
    check_at_least(cfg, "SOLVER.WARMUP_ITERS", 0)
    check_at_least(cfg, "SOLVER.CHECKPOINT_PERIOD", 1, " iteration")
    check_at_least(cfg, "SOLVER.MAX_TO_KEEP", 0, "; 0 keeps all checkpoints")
    fractions, steps = cfg.SOLVER.STEP_FRACTIONS, cfg.SOLVER.STEPS
    holds = are_numbers(fractions) and is_rising(fractions) and all(0 < fraction < 1 for fraction in fractions)
    require(holds, "SOLVER.STEP_FRACTIONS", fractions, "rise, and lie between 0 and 1")
    holds = are_numbers(steps) and is_rising(steps) and all(isinstance(step, int) and step > 0 for step in steps)
    require(holds, "SOLVER.STEPS", steps, "be whole iterations above 0 that rise")


def _check_rates(cfg: CfgNode) -> None:
    check_one_of(cfg, "SOLVER.OPTIMIZER", OPTIMIZERS)
    check_one_of(cfg, "SOLVER.LR_SCHEDULER_NAME", SCHEDULERS)
    check_one_of(cfg, "SOLVER.WARMUP_METHOD", ("linear", "constant"))
    factor, rate, end = cfg.SOLVER.WARMUP_FACTOR, cfg.SOLVER.BASE_LR, cfg.SOLVER.BASE_LR_END
    require(is_number(factor) and 0 <= factor <= 1, "SOLVER.WARMUP_FACTOR", factor, "lie between 0 and 1")
    check_above(cfg, "SOLVER.BASE_LR", 0)
    holds = is_number(end) and 0 <= end <= rate
    require(holds, "SOLVER.BASE_LR_END", end, f"lie between 0 and SOLVER.BASE_LR, {rate}")
    check_at_least(cfg, "SOLVER.REFERENCE_BATCH_SIZE", 0, "; 0 doesn't scale the learning rate")
    check_above(cfg, "SOLVER.GAMMA", 0)
    check_above(cfg, "SOLVER.POLY_POWER", 0)
    betas, decay = cfg.SOLVER.BETAS, cfg.SOLVER.LAYER_DECAY
    holds = are_numbers(betas, 2) and all(0 <= beta < 1 for beta in betas)
    require(holds, "SOLVER.BETAS", betas, "be two numbers of at least 0 and below 1")
    check_at_least(cfg, "SOLVER.WEIGHT_DECAY", 0)
    require(is_number(decay) and 0 < decay <= 1, "SOLVER.LAYER_DECAY", decay, "be above 0 and at most 1")


def _check_automatic_batch(cfg: CfgNode) -> None:
    """Checks what goes with SOLVER.IMS_PER_BATCH auto."""
    _check_passes(cfg)
    parts, reference = cfg.SOLVER.ACCUMULATION_STEPS, cfg.SOLVER.REFERENCE_BATCH_SIZE
    must = "be 0 or 1 where SOLVER.IMS_PER_BATCH is auto, which is as many images as fit one pass"
    require(parts < 2, "SOLVER.ACCUMULATION_STEPS", parts, must)
    must = "be above 0 where SOLVER.IMS_PER_BATCH is auto, which is at most as many, and scales the learning rate"
    require(reference > 0, "SOLVER.REFERENCE_BATCH_SIZE", reference, must)


def _check_passes(cfg: CfgNode) -> None:
    check_at_least(cfg, "SOLVER.ACCUMULATION_STEPS", 0, "; 0 follows from SOLVER.MAX_IMS_PER_PASS")
    check_at_least(cfg, "SOLVER.MAX_IMS_PER_PASS", -1, "; 0 sets no limit, and -1, or auto, that of the memory")


def check_batch(cfg: CfgNode, processes: int) -> None:
    """Checks that the images of an optimizer step can be divided among `processes` and accumulation steps."""
    _check_passes(cfg)
    images, parts, limit = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS, cfg.SOLVER.MAX_IMS_PER_PASS
    passes = max(parts, 1) * processes
    require(
        is_number(images) and images > 0 and images % passes == 0,
        "SOLVER.IMS_PER_BATCH",
        images,
        f"be a multiple of {passes}, that is, of {processes} process{'es' * (processes > 1)} × "
        f"SOLVER.ACCUMULATION_STEPS {max(parts, 1)}",
    )
    shown = "auto" if limit == AUTO else limit
    must = f"be 0, from which the least number follows that keeps to SOLVER.MAX_IMS_PER_PASS {shown}, or be higher"
    require(not (parts and limit) or images <= passes * limit, "SOLVER.ACCUMULATION_STEPS", parts, must)


def _check_evaluation(cfg: CfgNode) -> None:
    """Checks when, and in which precision, a model is evaluated during training."""
    for key in ("TEST.EVAL_PERIOD", "TEST.EVAL_EPOCHS", "TEST.PATIENCE"):
        check_at_least(cfg, key, 0, ", and 0 is never")
    evaluated = (cfg.TEST.EVAL_PERIOD or cfg.TEST.EVAL_EPOCHS) and cfg.DATASETS.TEST
    must = "be 0 where there are no evaluations during training, for which TEST.EVAL_EPOCHS and DATASETS.TEST are set"
    require(not cfg.TEST.PATIENCE or evaluated, "TEST.PATIENCE", cfg.TEST.PATIENCE, must)
    expected = cfg.TEST.EXPECTED_RESULTS
    require(not expected or cfg.DATASETS.TEST, "TEST.EXPECTED_RESULTS", expected, "be empty without DATASETS.TEST")
    check_one_of(cfg, "TEST.PRECISION", (TRAINED, *DTYPES))
    require_gpu(cfg.TEST.PRECISION, cfg.MODEL.DEVICE, "TEST.PRECISION")


def _check_probes(cfg: CfgNode) -> None:
    """Checks when, and on which data, features are probed during pretraining."""
    check_at_least(cfg, "TEST.PROBE_EPOCHS", 0, ", and 0 is at the end alone")
    probes = cfg.TEST.PROBE
    holds = isinstance(probes, (list, tuple)) and all(map(_is_probe, probes))
    require(holds, "TEST.PROBE", probes, "be a list of [name, training part, test part], folders or CSV files")
    names = [name for name, _, _ in probes]
    require(len(set(names)) == len(names), "TEST.PROBE", probes, "have a name of its own for each entry")


def _is_probe(entry: object) -> bool:
    words = entry if isinstance(entry, (list, tuple)) else ()
    return len(words) == 3 and all(isinstance(word, str) and word for word in words)
