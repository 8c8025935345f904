"""Test-time augmentation: an image in several sizes, also mirrored, whose predictions are merged."""

from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNNWithTTA
from torch import nn

from ..config.checks.data import check_test_time_augmentation


def augment_predictions(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Returns the detector as TEST.AUG says: with Detectron2's test-time augmentation, or as it is.

    Of every image, at its own size, it makes one or two for each of TEST.AUG.MIN_SIZES. They pass the model one by one,
    so that none is padded to the size of another.

    Raises:
        InputError: the detector can't be augmented.
    """
    check_test_time_augmentation(cfg)
    if not cfg.TEST.AUG.ENABLED:
        return model
    return GeneralizedRCNNWithTTA(cfg, model, batch_size=1).train(model.training)
