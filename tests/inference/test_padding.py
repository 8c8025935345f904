"""Images of a batch are padded as in training: each has its result whatever the others are."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from reference.small import annotated_image, assert_near, detector_cfg, randomise
from torch.testing import assert_close

from convmae_det.errors import InputError
from convmae_det.inference.model import build_model

SQUARE = ("INPUT.LSJ.IMAGE_SIZE", 96, "MODEL.CONVMAE.IMAGE_SIZE", 96, "INPUT.MAX_SIZE_TEST", 96)


def features(model, images: list[torch.Tensor]) -> torch.Tensor:
    """Of the first image, at stride 4."""
    batch = model.preprocess_image([{"image": image} for image in images])
    return model.backbone(batch.tensor)["p2"][:1]


@pytest.mark.parametrize("relative_position", ["shared", "none", "decomposed"])
@pytest.mark.parametrize("builder", ["fpn", "sfp"])
def test_in_training_features_do_not_depend_on_the_batch(relative_position, builder):
    name = f"build_convmae_{builder}_backbone"
    cfg = detector_cfg(*SQUARE, "MODEL.CONVMAE.RELATIVE_POSITION", relative_position, "MODEL.BACKBONE.NAME", name)
    model = randomise(build_model(cfg)).train()
    first, *others = (torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in [(40, 64), (96, 33), (70, 96)])
    alone = features(model, [first])
    assert alone.shape[2:] == (24, 24)
    assert_near(features(model, [first, *others]), alone, 1e-5)


@pytest.mark.parametrize("relative_position", ["shared", "none"])
def test_a_smaller_map_has_the_positions_of_the_padded_one(relative_position):
    """Before anything attends to padding: the position embedding of an image is that which training showed it."""
    stage = build_model(detector_cfg(*SQUARE, "MODEL.CONVMAE.RELATIVE_POSITION", relative_position)).backbone.bottom_up
    table = randomise(stage.encoder.stage3.position_embedding)
    assert_close(table((3, 5)), table((6, 6))[:, :3, :5], rtol=0, atol=0)
    larger = table((9, 4))  # rows are enlarged, columns are cropped
    assert_close(larger, table((9, 6))[:, :, :4], rtol=0, atol=0)


def test_decomposed_positions_are_resized_as_in_the_second_published_code():
    """So that training and evaluation show the same, both are padded."""
    model = build_model(detector_cfg(*SQUARE, "MODEL.CONVMAE.RELATIVE_POSITION", "decomposed"))
    assert not model.backbone.bottom_up.encoder.stage3.position_embedding.crops
    image = {"image": torch.full((3, 40, 64), 255.0)}
    for training in (True, False):
        assert model.train(training).preprocess_image([image]).tensor.shape[2:] == (96, 96)


def test_an_image_larger_than_the_square_is_refused():
    model = build_model(detector_cfg(*SQUARE, "MODEL.CONVMAE.SQUARE_PAD", 96))
    with pytest.raises(InputError, match=r"photo\.jpg of 100×64 pixels is larger than the square of 96"):
        model.preprocess_image([{"image": torch.zeros(3, 64, 100), "file_name": "photo.jpg"}])


@pytest.mark.parametrize("training", [True, False])
def test_an_image_larger_than_those_of_training_is_kept_whole(training):
    model = build_model(detector_cfg(*SQUARE)).train(training)
    padded = model.preprocess_image([{"image": torch.full((3, 40, 130), 255.0)}]).tensor
    assert padded.shape[2:] == ((96, 160) if training else (64, 160))
    assert padded[:, :, :40, :130].ne(0).all()


def test_padding_with_a_grey_level():
    cfg = detector_cfg(*SQUARE, "MODEL.CONVMAE.SQUARE_PAD", 96, "MODEL.CONVMAE.PAD_VALUE", 128.0)
    plain, grey = build_model(detector_cfg(*SQUARE, "MODEL.CONVMAE.SQUARE_PAD", 96)), build_model(cfg)
    images = [{"image": torch.randint(0, 256, (3, h, w), dtype=torch.uint8)} for h, w in [(40, 64), (96, 33)]]
    zeros, padded = plain.preprocess_image(images).tensor, grey.preprocess_image(images).tensor
    level = ((128 - grey.pixel_mean) / grey.pixel_std).expand(3, 96, 96)
    for index, image in enumerate(images):
        height, width = image["image"].shape[1:]
        inside = torch.zeros(96, 96, dtype=torch.bool)
        inside[:height, :width] = True
        assert torch.equal(padded[index][:, inside], zeros[index][:, inside])
        assert_close(padded[index][:, ~inside], level[:, ~inside])


ARCHITECTURES = {
    "Mask R-CNN": (),
    "RetinaNet": (
        *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False),
        *("MODEL.FPN.IN_FEATURES", ["e2", "e3", "e4"], "MODEL.RETINANET.NUM_CLASSES", 4),
    ),
    "Panoptic FPN": (
        *("MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 16, "MODEL.SEM_SEG_HEAD.NORM", "LN"),
    ),
}


@pytest.mark.parametrize("options", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_detectors_train_on_padded_images(options):
    model = build_model(detector_cfg(*SQUARE, *options)).train()
    with EventStorage():
        losses = model([annotated_image(48, 64), annotated_image(64, 40, objects=0)])
    assert all(loss.isfinite() for loss in losses.values())
