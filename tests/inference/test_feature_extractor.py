"""The encoder for plain PyTorch: the features are the published code's and the detector's, whatever the file."""

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from detectron2.structures import ImageList
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import SHAPE, assert_near, autoencoder_cfg, detector_cfg, randomise
from torchvision.transforms.v2 import functional as transforms

from benchmarks import published as plain
from convmae_det import create_encoder
from convmae_det.checkpoint.conversion import to_official
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.config.presets import PRESETS
from convmae_det.errors import InputError
from convmae_det.modeling.masked_convolution import VisibleBlocks

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
MAE_TINY = dict(embed_dims=(16, 24, 48), depths=(2, 2, 3), num_heads=4, mlp_ratios=(4, 4, 4))
CONVMAE = "MODEL.CONVMAE."
STRIDES = {"e1": 4, "e2": 8, "e3": 16, "e4": 32}


@pytest.fixture
def run(tmp_path):
    """run(cfg, name): a network of the configuration, and its file as a run leaves it, config.yaml beside it."""

    def run(cfg, name="model_final.pth", config=True):
        model = randomise(build_model(cfg)).eval()
        write_checkpoint({"model": model.state_dict(), "iteration": 1}, tmp_path / name)
        if config:
            (tmp_path / "config.yaml").write_text(cfg.dump())
        return model, tmp_path / name

    return run


def detector(**keys):
    return detector_cfg(*(word for key, value in keys.items() for word in (CONVMAE + key, value)))


def features(model, images):
    with torch.no_grad():
        return model(images)


# --- the published networks


@pytest.mark.parametrize("name", ["det_window8", "handoff_window8"])
def test_first_published_detector(name):
    """The windows are known without a configuration."""
    reference = np.load(GOLDEN / "det_window8.npz")
    encoder = create_encoder(pretrained=GOLDEN / "det_window8_checkpoint.pth")
    maps = features(encoder, torch.tensor(reference["images"]))
    assert_near(maps, {f"e{i + 1}": torch.tensor(reference[f"s{i}"]) for i in range(4)}, 1e-4)


def test_second_published_detector():
    reference = np.load(GOLDEN / "vitdet_window7.npz")
    encoder = create_encoder(pretrained=GOLDEN / "vitdet_window7_checkpoint.pth", features=["e3"])
    for image in range(2):
        maps = features(encoder, torch.tensor(reference[f"images{image}"]))
        assert_near(maps, {"e3": torch.tensor(reference[f"last_feat{image}"])}, 1e-4)


def test_published_pretraining():
    """On the visible blocks, and fused by the file's own weights, the features are the published latent."""
    path = GOLDEN / "mae_tiny_checkpoint.pth"
    reference = np.load(GOLDEN / "mae_tiny.npz")
    encoder = create_encoder(MAE_TINY, path).encoder
    indices = torch.tensor(reference["ids_keep"])
    with torch.no_grad():
        e1, e2, e3 = encoder(torch.tensor(reference["images"]), VisibleBlocks(indices, (14, 14)))
    weights = torch.load(path, weights_only=False)["model"]
    fused = e3.flatten(2) + sum(
        F.conv2d(e.flatten(0, 1).permute(0, 3, 1, 2), weights[f"{name}.weight"], weights[f"{name}.bias"]).view(
            2, 49, 48
        )
        for name, e in (("stage1_output_decode", e1), ("stage2_output_decode", e2))
    )
    latent = F.layer_norm(fused, (48,), weights["norm.weight"], weights["norm.bias"], 1e-6)
    assert_near(latent, torch.tensor(reference["latent"]), 1e-4)


@pytest.mark.parametrize("layout", ["ours", "published"])
def test_weights_of_pretraining_give_the_plain_encoder(run, tmp_path, layout):
    """Global attention, the position table of the file, no norm."""
    model, path = run(autoencoder_cfg())
    if layout == "published":
        write_checkpoint({"model": to_official(model.state_dict())}, path)
    encoder = create_encoder(pretrained=path)  # whose heads the config.yaml beside it tells
    model.encoder.norm = None
    reference = plain.Encoder(**SHAPE, grid=(4, 4))
    plain.take_weights(reference, torch.nn.ModuleDict({"encoder": model.encoder}))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        e1, e2, tokens = reference.convolutions(images)
        for block in reference.blocks3:
            tokens = block(tokens)
    e3 = tokens.transpose(1, 2).unflatten(2, (4, 4))
    assert_near(features(encoder, images), {"e1": e1, "e2": e2, "e3": e3, "e4": F.max_pool2d(e3, 2)}, 1e-5)


# --- our detectors


@pytest.mark.parametrize(
    "builder", ["build_convmae_backbone", "build_convmae_fpn_backbone", "build_convmae_sfp_backbone"]
)
@pytest.mark.parametrize("relative_position", ["shared", "decomposed", "none"])
def test_features_are_those_of_the_detectors_backbone(run, builder, relative_position):
    """Bit for bit, for images of any size, which the detector pads."""
    cfg = detector(RELATIVE_POSITION=relative_position)
    cfg.MODEL.BACKBONE.NAME = builder
    if builder == "build_convmae_backbone":
        cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
        cfg.MODEL.RETINANET.IN_FEATURES = ["e3", "e4"]
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16]]
    model, path = run(cfg)
    backbone = getattr(model.backbone, "bottom_up", getattr(model.backbone, "net", model.backbone))
    encoder = create_encoder(pretrained=path)
    for height, width in ((64, 96), (50, 70)):
        image = torch.randn(3, height, width)
        padded = ImageList.from_tensors([image], 32).tensor
        with torch.no_grad():
            expected, found = backbone(padded), encoder(image[None])
        for name, stride in STRIDES.items():
            h, w = -(-height // stride), -(-width // stride)
            assert torch.equal(found[name], expected[name][..., :h, :w])


def test_safetensors_and_another_place_of_the_configuration(run, tmp_path):
    _, path = run(detector(), "model.safetensors")
    beside = create_encoder(pretrained=path)
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / path.name)
    named = create_encoder(pretrained=moved, config=tmp_path / "config.yaml")
    images = torch.randn(1, 3, 64, 64)
    assert_near(features(named, images), features(beside, images), 0)
    assert named.encoder.stage3.blocks[1].window is None and named.encoder.stage3.blocks[0].window == (3, 0)


@pytest.mark.parametrize(
    "cfg, complaint",
    [
        (None, "don.t contain the windows of its attention"),
        (detector(WINDOW_SIZE=5), "another detector than its configuration: .*local_bias"),
        (detector(IMAGE_SIZE=96, GLOBAL_BLOCKS=[0, 1, 2]), "another detector than its configuration: .*local_bias"),
        (detector(DEPTHS=[1, 1, 4]), "don.t contain the windows of its attention"),  # of another network: not used
        (autoencoder_cfg(), "don.t contain the windows of its attention"),
    ],
)
def test_a_detector_without_its_configuration_is_refused(run, cfg, complaint):
    _, path = run(detector(), config=False)
    if cfg:
        (path.parent / "config.yaml").write_text(cfg.dump())
    with pytest.raises(InputError, match=complaint):
        create_encoder(pretrained=path)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("_BASE_: /etc/passwd\n", "_BASE_"),
        ("MODEL: {CONVMAE: {ARCH: tiny}}\n", "not completely"),
        ("- 1\n", "doesn't describe a ConvMAE network"),
        ("a: !!python/object/apply:os.system [echo]\n", "not plain YAML"),
        (detector(DEPTHS=[1, 1, 4]).dump(), "doesn't describe .*model_final.pth"),
        (None, "can't be read"),
    ],
)
def test_a_named_configuration_that_will_not_do(run, tmp_path, text, complaint):
    _, path = run(detector())
    other = tmp_path / "other.yaml"
    if text:
        other.write_text(text)
    with pytest.raises(InputError, match=complaint):
        create_encoder(pretrained=path, config=other)


# --- architectures


@pytest.mark.parametrize("arch", PRESETS)
def test_presets(arch):
    with torch.device("meta"):
        encoder = create_encoder(arch)
    assert encoder.strides == STRIDES
    assert [len(stage.blocks) for stage in encoder.encoder.stages] == list(PRESETS[arch]["depths"])
    assert tuple(encoder.channels.values()) == (*PRESETS[arch]["embed_dims"], PRESETS[arch]["embed_dims"][2])


def test_the_architecture_is_that_of_the_file(tmp_path):
    path = tmp_path / "tiny.pth"
    tiny = create_encoder("tiny")
    write_checkpoint({"model": tiny.state_dict()}, path)
    images = torch.randn(1, 3, 32, 32)
    for arch in (None, "tiny", PRESETS["tiny"]):
        assert_near(features(create_encoder(arch, path), images), features(tiny, images), 0)
    with pytest.raises(InputError, match=r"tiny\.pth is an encoder tiny \(widths 32 64 128.*not what arch says"):
        create_encoder("small", path)
    with pytest.raises(InputError, match="takes 3 channels, not 4"):
        create_encoder("tiny", path, in_channels=4)


def test_heads_of_other_widths_must_be_told(run):
    _, path = run(autoencoder_cfg(), config=False)
    with pytest.raises(InputError, match="number of attention heads.*config="):
        create_encoder(pretrained=path)
    assert create_encoder(SHAPE, path).encoder.stage3.blocks[0].attn.num_heads == 2


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (dict(arch="giant"), "'giant'; choose one of tiny, small, base, large, huge"),
        (dict(arch=dict(embed_dims=(8, 12, 16))), "must have the keys embed_dims, depths, num_heads, mlp_ratios"),
        (dict(arch="tiny", features=["e5"]), "some of e1, e2, e3, e4"),
        (dict(arch="tiny", features=[]), "some of e1, e2, e3, e4"),
        (dict(arch="tiny", features="e1"), "some of e1, e2, e3, e4"),
        (dict(arch="tiny", drop_path_rate=1), "drop_path_rate is 1"),
        (dict(pretrained="nowhere.pth"), "nowhere.pth can't be opened"),
    ],
)
def test_arguments_that_will_not_do(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        create_encoder(**arguments)


# --- as a module of PyTorch


@settings(max_examples=15)
@given(height=st.integers(1, 100), width=st.integers(1, 100))
def test_images_of_any_size(height, width):
    encoder = create_encoder(SHAPE)
    maps = features(encoder, torch.randn(2, 3, height, width))
    for name, stride in encoder.strides.items():
        assert maps[name].shape == (2, encoder.channels[name], -(-height // stride), -(-width // stride))


def test_only_the_features_asked_for():
    encoder = create_encoder(SHAPE, features=["e4", "e2"])
    assert list(encoder(torch.zeros(1, 3, 32, 32))) == list(encoder.channels) == list(encoder.strides) == ["e4", "e2"]


@pytest.mark.parametrize(
    "images, complaint",
    [
        (torch.zeros(3, 32, 32), r"\(3, 32, 32\); the encoder takes \(N, 3, H, W\)"),
        (torch.zeros(1, 4, 32, 32), r"\(N, 3, H, W\)"),
        (torch.zeros(1, 3, 0, 32), r"\(N, 3, H, W\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "images are uint8; .*normalised"),
    ],
)
def test_images_that_will_not_do(images, complaint):
    with pytest.raises(InputError, match=complaint):
        create_encoder(SHAPE)(images)


def test_normalisation_is_that_of_training(run):
    """Pixels of 0–1, less `mean`, divided by `std`, are what the detector makes of its pixels of 0–255."""
    cfg = detector_cfg("MODEL.PIXEL_MEAN", [10.0, 20.0, 30.0], "MODEL.PIXEL_STD", [40.0, 50.0, 60.0])
    model, path = run(cfg)
    encoder = create_encoder(pretrained=path)
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    expected = model.preprocess_image([{"image": pixels}]).tensor
    assert_near(transforms.normalize(pixels[None] / 255, encoder.mean, encoder.std), expected, 1e-5)
    imagenet = create_encoder(SHAPE)
    assert imagenet.mean == (0.485, 0.456, 0.406) and imagenet.std == (0.229, 0.224, 0.225)
    assert create_encoder(SHAPE, in_channels=4).mean is None


@pytest.mark.parametrize("kind", ["plain", "detector"])
def test_every_parameter_gets_a_gradient(run, kind):
    encoder = (
        create_encoder(SHAPE, drop_path_rate=0.1) if kind == "plain" else create_encoder(pretrained=run(detector())[1])
    )
    encoder.eval()
    sum(tensor.square().mean() for tensor in encoder(torch.randn(1, 3, 50, 70)).values()).backward()
    assert not [name for name, parameter in encoder.named_parameters() if parameter.grad is None]


def trace(encoder, images):
    return torch.jit.trace(encoder, images, strict=False)


def to_onnx(encoder, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    file, names = io.BytesIO(), list(encoder.features)
    torch.onnx.export(
        encoder, (images,), file, input_names=["images"], output_names=names, opset_version=17, dynamo=False,
        dynamic_axes={"images": {0: "n", 2: "height", 3: "width"}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return lambda images: {
        name: torch.from_numpy(output)
        for name, output in zip(names, session.run(None, {"images": images.numpy()}), strict=True)
    }


@pytest.mark.filterwarnings("ignore")  # of tracing: that branches are fixed, and that it is deprecated
@pytest.mark.parametrize("write", [trace, to_onnx])
@pytest.mark.parametrize("kind", ["plain", "detector"])
def test_what_is_traced_serves_every_size(run, kind, write):
    """Also sides that are no multiple of a stride, whichever size it is traced at."""
    encoder = create_encoder(SHAPE) if kind == "plain" else create_encoder(pretrained=run(detector())[1])
    encoder.eval()
    sizes = [(64, 96), (33, 31), (50, 70), (1, 1), (128, 63)]
    for traced_at in sizes[:2]:
        with torch.no_grad():
            network = write(encoder, torch.randn(1, 3, *traced_at))
        for number, size in enumerate(sizes, start=1):
            images = torch.randn(number, 3, *size)
            assert_near(features(network, images), features(encoder, images), 1e-4)


def test_state_dict_goes_around(tmp_path):
    """What the module saves is a checkpoint that it reads, with plain PyTorch or ours."""
    encoder = randomise(create_encoder("tiny"))
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    again = create_encoder(pretrained=tmp_path / "encoder.pth")
    assert again.state_dict().keys() == encoder.state_dict().keys()
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in encoder.state_dict().items())


# --- without Detectron2

HIDDEN = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("detectron2", "fvcore", "iopath", "pycocotools"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import torch
import convmae_det
"""


def test_without_detectron2(run, python, tmp_path):
    """Files of pretraining and of detectors give the same features, and what can't work says why."""
    _, path = run(detector())
    images = torch.randn(1, 3, 50, 70)
    torch.save(images, tmp_path / "images.pt")
    program = """
folder, golden = sys.argv[1:]
images = torch.load(f"{folder}/images.pt")
with torch.no_grad():
    own = convmae_det.create_encoder(pretrained=f"{folder}/model_final.pth")(images)
    published = convmae_det.create_encoder(pretrained=f"{golden}/det_window8_checkpoint.pth")(images)
    hub = convmae_det.from_pretrained(folder, encoder=True)(images)
torch.save([own, published, hub], f"{folder}/features.pt")
for use in (lambda: convmae_det.Predictor, lambda: convmae_det.from_pretrained(folder)):
    try:
        use()
    except (ImportError, ValueError) as error:
        print(type(error).__name__, error)
print("detectron2" in sys.modules, "Predictor" in dir(convmae_det), hasattr(convmae_det, "predict"))
"""
    done = subprocess.run([python, "-c", HIDDEN + program, tmp_path, GOLDEN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    own, published, hub = torch.load(tmp_path / "features.pt")
    assert_near(own, features(create_encoder(pretrained=path), images), 0)
    assert_near(hub, own, 0)
    assert_near(published, features(create_encoder(pretrained=GOLDEN / "det_window8_checkpoint.pth"), images), 0)
    predictor, from_pretrained, rest = done.stdout.strip().splitlines()
    assert (
        predictor.startswith("ImportError convmae_det.Predictor needs Detectron2") and "install-detectron2" in predictor
    )
    assert from_pretrained.startswith("InputError") and "install-detectron2" in from_pretrained
    assert rest == "False True False"
