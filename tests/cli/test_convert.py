"""What the converter writes loads into plain Detectron2, and comes back bit for bit."""

import re

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from convmae_det.checkpoint import load_weights
from convmae_det.checkpoint.conversion import to_official
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.cli import convert
from convmae_det.config import add_convmae_config
from convmae_det.errors import InputError

SMALL = ["MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.ROI_BOX_HEAD.CONV_DIM", "16"]
SMALL += ["MODEL.ROI_MASK_HEAD.CONV_DIM", "16", "MODEL.DEVICE", "cpu"]
TINY = ["MODEL.CONVMAE.ARCH", "tiny", *SMALL]
GOLDEN = ["MODEL.CONVMAE.EMBED_DIMS", "[16,24,48]", "MODEL.CONVMAE.NUM_HEADS", "4", *SMALL]


def model(*opts):
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.merge_from_list(list(opts))
    return build_model(cfg).eval()


@pytest.fixture
def yaml(tmp_path):
    """yaml(*KEY VALUE): the path of a configuration file with these keys."""

    def yaml(*opts):
        path = tmp_path / "detector.yaml"
        cfg = get_cfg()
        add_convmae_config(cfg)
        cfg.merge_from_list(list(opts))
        path.write_text(cfg.dump())
        return str(path)

    return yaml


@pytest.fixture
def golden(request):
    return request.config.rootpath / "tests" / "data" / "golden"


def randomise(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    return network


def load_plainly(network, path):
    """Detectron2's own checkpointer: the names of parameters that the file lacks, has in excess, or of other shape."""
    checkpointer = DetectionCheckpointer(network)
    found = []
    checkpointer._log_incompatible_keys = found.append
    checkpointer.load(str(path))
    return found[0]


def assert_identical(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]), name


def test_pretraining_reaches_plain_detectron2_bit_for_bit(tmp_path, yaml, capsys):
    sizes = ["MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", "64", "MODEL.CONVMAE.IMAGE_SIZE", "64"]
    keys = [*TINY, *sizes, "MODEL.CONVMAE.GLOBAL_BLOCKS", "[0,1,2,3]"]
    pretrained = randomise(model(*keys, "MODEL.META_ARCHITECTURE", "MaskedAutoencoder"))
    write_checkpoint({"model": pretrained.state_dict(), "iteration": 5}, tmp_path / "pretrained.pth")
    convert.main([str(tmp_path / "pretrained.pth"), str(tmp_path / "converted.pth"), "--config-file", yaml(*keys)])
    detector = model(*keys)
    incompatible = load_plainly(detector, tmp_path / "converted.pth")
    assert incompatible.missing_keys and not incompatible.unexpected_keys and not incompatible.incorrect_shapes
    assert all(
        name.startswith(("backbone.fpn_", "proposal_generator.", "roi_heads.")) for name in incompatible.missing_keys
    )
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features, expected = detector.backbone.bottom_up(images), pretrained.encoder(images)
    for name, feature in zip(("e1", "e2", "e3"), expected, strict=True):
        assert torch.equal(features[name], feature.permute(0, 3, 1, 2))
    assert "starts at zero" in capsys.readouterr().out


def test_the_first_published_detector_and_back(tmp_path, yaml):
    """All features and boxes are the same after conversion; the way back gives the published file bit for bit."""
    keys = [*TINY, "MODEL.CONVMAE.IMAGE_SIZE", "128", "MODEL.CONVMAE.WINDOW_SIZE", "4", "MODEL.CONVMAE.GLOBAL_BLOCKS"]
    keys += ["[0,3]", "MODEL.CONVMAE.WINDOW_SHIFT", "False", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    original = randomise(model(*keys))
    published = to_official(original.state_dict(), "backbone.bottom_up.")
    torch.save({"model": published, "iteration": 92187}, tmp_path / "published.pth")
    for converted, extra in (("a.pth", []), ("b.pth", ["--config-file", yaml(*keys)])):
        convert.main([str(tmp_path / "published.pth"), str(tmp_path / converted), *extra])
        detector = model(*keys)
        incompatible = load_plainly(detector, tmp_path / converted)
        assert not any(incompatible)
        image = torch.randint(0, 256, (3, 96, 128)).float()
        with torch.no_grad():
            features, expected = (network.backbone(image[None, :, :, :96]) for network in (detector, original))
            boxes, expected_boxes = (network([{"image": image}])[0]["instances"] for network in (detector, original))
        assert_identical(features, expected)
        assert len(boxes) > 0 and torch.equal(boxes.pred_boxes.tensor, expected_boxes.pred_boxes.tensor)
        assert torch.equal(boxes.scores, expected_boxes.scores) and torch.equal(
            boxes.pred_masks, expected_boxes.pred_masks
        )
        convert.main([str(tmp_path / converted), str(tmp_path / "back.pth"), "--to", "official"])
        assert_identical(read_checkpoint(tmp_path / "back.pth")["model"], published)


@pytest.mark.parametrize("file", ["det_window8", "vitdet_window7", "handoff_window8_pretrain", "mae_tiny"])
def test_official_and_back(golden, tmp_path, file):
    source = golden / f"{file}_checkpoint.pth"
    back = tmp_path / "back.safetensors"
    if "window8_pretrain" in file or "mae" in file:  # through our pretraining model
        depth = "11" if "window8" in file else "3"
        decoder = [
            "MODEL.MAE.DECODER_EMBED_DIM",
            "16" if "window8" in file else "32",
            "MODEL.MAE.DECODER_NUM_HEADS",
            "2",
        ]
        decoder += ["MODEL.MAE.DECODER_DEPTH", "1" if "window8" in file else "2"]
        keys = [*GOLDEN, "MODEL.CONVMAE.DEPTHS", f"[2,2,{depth}]", *decoder]
        network = model(*keys, "MODEL.META_ARCHITECTURE", "MaskedAutoencoder")
        load_weights(network, source)
        write_checkpoint({"model": network.state_dict()}, tmp_path / "ours.pth")
    else:
        convert.main([str(source), str(tmp_path / "ours.pth")])
    convert.main([str(tmp_path / "ours.pth"), str(back), "--to", "official"])
    assert_identical(read_checkpoint(back)["model"], read_checkpoint(source)["model"])


def test_without_configuration_the_default_detector_takes_the_file(golden, tmp_path, capsys):
    """The file doesn't tell its number of heads, so no bias tables are written: they start at zero by themselves."""
    convert.main([str(golden / "mae_tiny_checkpoint.pth"), str(tmp_path / "a.pth")])
    detector = model(*GOLDEN, "MODEL.CONVMAE.DEPTHS", "[2,2,3]")
    incompatible = load_plainly(detector, tmp_path / "a.pth")
    assert not incompatible.incorrect_shapes and not incompatible.unexpected_keys
    assert not any("encoder" in name for name in incompatible.missing_keys if "_bias.table" not in name)
    assert "1×14×14×48 → 1×64×64×48" in capsys.readouterr().out


def test_the_encoder_alone(tmp_path, yaml):
    torch.save({"model": model(*TINY, "MODEL.CONVMAE.IMAGE_SIZE", "64").state_dict()}, tmp_path / "detector.pth")
    convert.main([str(tmp_path / "detector.pth"), str(tmp_path / "encoder.pth"), "--to", "encoder"])
    tensors = read_checkpoint(tmp_path / "encoder.pth")["model"]
    assert tensors and all(name.startswith("backbone.bottom_up.encoder.") for name in tensors)


def test_one_of_several_encoders(golden, tmp_path, capsys):
    """Bit for bit, into the layout that keeps all sizes; its place is told."""
    student = read_checkpoint(golden / "mae_tiny_checkpoint.pth")["model"]
    teacher = {name: tensor + 1 for name, tensor in student.items()}
    torch.save({"student": student, "teacher": teacher}, tmp_path / "both.pth")
    with pytest.raises(InputError, match="2 encoders, at student, teacher: .*--to official --key student$"):
        convert.main([str(tmp_path / "both.pth"), str(tmp_path / "a.pth")])
    for key, published in (("student", student), ("teacher", teacher)):
        arguments = [str(tmp_path / "both.pth"), str(tmp_path / f"{key}.pth"), "--to", "official", "--key", key]
        convert.main(arguments)
        assert_identical(read_checkpoint(tmp_path / f"{key}.pth")["model"], published)
        convert.main([str(tmp_path / "both.pth"), "--inspect", "--key", key])
        assert re.search(rf"^under +{key}$", capsys.readouterr().out, re.MULTILINE)


def test_safetensors_load_here(golden, tmp_path):
    keys = [*GOLDEN, "MODEL.CONVMAE.DEPTHS", "[2,2,11]", "MODEL.CONVMAE.IMAGE_SIZE", "256"]
    keys += ["MODEL.CONVMAE.WINDOW_SIZE", "8"]
    convert.main([str(golden / "det_window8_checkpoint.pth"), str(tmp_path / "a.safetensors")])
    report = load_weights(model(*keys), tmp_path / "a.safetensors")
    assert len(report.matched) == 205 and not report.resized


def test_tensors_alone_are_written(golden, tmp_path):
    convert.main([str(golden / "handoff_window8_pretrain_checkpoint.pth"), str(tmp_path / "a.pth")])
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    assert content.pop("__author__") == "convmae_det" and content.pop("matching_heuristics") is False
    assert content.keys() == {"model"} and all(isinstance(t, torch.Tensor) for t in content["model"].values())


def test_inspect(golden, capsys):
    convert.main([str(golden / "det_window8_checkpoint.pth"), "--inspect"])
    facts = dict(re.split("  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["kind"] == "detector of the first published code" and facts["iteration"] == "92187"
    assert facts["encoder"] == "custom (widths 16 24 48, depths 2 2 11, MLP ratios 4 4 4)"
    assert facts["relative position"] == "shared: windows of 8, global 16×16"
    convert.main([str(golden / "mae_tiny_checkpoint.pth"), "--inspect"])
    out = capsys.readouterr().out
    assert "epoch" in out and "1599" in out and "width 32, 2 blocks" in out and "14×14 tokens" in out


def test_inspect_tells_presets_and_classes(tmp_path, capsys):
    keys = [*TINY, "MODEL.CONVMAE.IMAGE_SIZE", "64", "MODEL.ROI_HEADS.NUM_CLASSES", "7"]
    torch.save(model(*keys).state_dict(), tmp_path / "detector.pth")
    convert.main([str(tmp_path / "detector.pth"), "--inspect"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "encoder tiny (widths 32 64 128, depths 2 2 4, MLP ratios 4 4 4)" in lines
    assert "classes 7" in lines and "attention heads 4" in lines


def test_refusals(golden, tmp_path, yaml):
    source, target = str(golden / "handoff_window8_pretrain_checkpoint.pth"), tmp_path / "a.pth"
    for arguments, complaint in [
        ([source], "OUTPUT is missing"),
        (["nothing.pth", str(target)], "^nothing.pth can't be opened"),
        ([source, str(tmp_path / "a.pkl")], "a.pkl has no ending"),
        ([source, str(target), "--config-file", yaml(*TINY)], "doesn't fit the model.*the model's is tiny"),
        ([source, str(target), "--config-file", "nothing.yaml"], "^nothing.yaml can't be read"),
        ([source, str(target), "MODEL.CONVMAE.ARC", "tiny"], "MODEL.CONVMAE.ARC, .* doesn't exist"),
    ]:
        with pytest.raises(InputError, match=complaint):
            convert.main(arguments)
        assert not target.exists()
