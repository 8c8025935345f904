import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import AUTOENCODER, ENCODER, autoencoder_cfg, randomise

from convmae_det.cli import reconstruct
from convmae_det.cli.main import main
from convmae_det.errors import InputError
from convmae_det.modeling.masked_autoencoder import MaskedAutoencoder
from convmae_det.visualization.reconstructions import make_noise
from convmae_det.visualization.sheet import GAP, TITLE_HEIGHT

TOP = GAP + TITLE_HEIGHT
SETTINGS = [str(word) for word in ENCODER + AUTOENCODER]


@pytest.fixture(scope="module")
def model():
    return randomise(build_model(autoencoder_cfg()))


@pytest.fixture
def folder(tmp_path, model, monkeypatch):
    """A place with a checkpoint, a configuration and images of several sizes, which is the current folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("MODEL:\n  META_ARCHITECTURE: MaskedAutoencoder\n")
    torch.save({"model": model.state_dict()}, "mae.pth")
    (tmp_path / "images" / "inner").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, size in {"b.png": (64, 64), "a.png": (100, 70), "inner/c.png": (30, 200)}.items():
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "images" / name)
    return tmp_path


def run(*words: str, weights: str = "mae.pth", config: str = "config.yaml") -> None:
    reconstruct.main(["--config-file", config, "--weights", weights, *SETTINGS, *words])


def test_every_image_of_a_folder_gets_a_row_and_a_line(folder, model, capsys):
    run("images", "TEST.PRECISION", "float32")
    lines = capsys.readouterr().out.splitlines()
    names = [line.rsplit("/")[-1].split(":")[0] for line in lines[:3]]
    assert names == ["a.png", "b.png", "c.png"] and lines[3:] == ["reconstructions.png written"]
    with Image.open("reconstructions.png") as picture:
        assert picture.width > 4 * 224 and picture.height > 3 * 224

    image = torch.from_numpy(np.array(Image.open("images/b.png"))).permute(2, 0, 1)  # of the model's size
    noise = make_noise(model, torch.empty(3, 3, 64, 64), 0)[1]
    with torch.no_grad():
        loss = model.eval()([{"image": image, "noise": noise}])["loss_reconstruction"].item()
    assert lines[1].endswith(f"loss {loss:.4f}")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_runs_in_the_precision_that_is_asked_for(folder, monkeypatch, precision):
    seen = set()
    forward = MaskedAutoencoder.predict_hidden

    def watched(model, *inputs):
        result = forward(model, *inputs)
        seen.add((str(result[1].dtype), torch.is_inference_mode_enabled()))
        return result

    monkeypatch.setattr(MaskedAutoencoder, "predict_hidden", watched)
    run("images/b.png", "TEST.PRECISION", precision)
    assert seen == {(f"torch.{precision}", True)}


def test_the_seed_decides_the_masks(folder):
    pictures = []
    for seed in ("1", "1", "2"):
        run("images/b.png", "--seed", seed, "--output", f"{seed}.png")
        pictures.append((folder / f"{seed}.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_more_images_than_the_limit_are_left_out_with_a_word(folder, capsys):
    run("images/inner/c.png", "images", "--max-images", "2")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "The first 2 of 4 images are shown; --max-images shows more."
    assert ["c.png" in lines[1], "a.png" in lines[2], len(lines)] == [True, True, 4]


def test_settings_stand_among_the_images(folder, capsys):
    Image.new("RGB", (64, 64)).save("MODEL.PNG")  # called like a key
    run("images/b.png", "MODEL.MAE.MASK_RATIO", "0.5", "MODEL.PNG", "MODEL.MAE.NORM_PIX_LOSS", "False")
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:2]] == ["images/b.png", "MODEL.PNG"]
    with pytest.raises(InputError, match="MASK_RATIO is 1.5"):
        run("images/b.png", "MODEL.MAE.MASK_RATIO", "1.5")
    with pytest.raises(InputError, match="not an even number"):
        run("images/b.png", "MODEL.MAE.MASK_RATIO")


def test_grey_images_and_masks_at_random(folder):
    options = ("INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", "[120.0]", "MODEL.PIXEL_STD", "[60.0]")
    options += ("MODEL.MAE.MASKING", "random")
    torch.save({"model": build_model(autoencoder_cfg(*options[2:4], *options[4:])).state_dict()}, "grey.pth")
    run(*options, "images", weights="grey.pth")
    pixels = np.asarray(Image.open("reconstructions.png"))[40:200]
    assert (pixels[..., 0] == pixels[..., 1]).all() and pixels.std() > 20


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_colours_are_shown_as_they_are(folder, image_format):
    run("images/b.png", "INPUT.FORMAT", image_format)
    original = np.asarray(Image.open("images/b.png")).repeat(4, 0).repeat(4, 1)
    assert np.array_equal(np.asarray(Image.open("reconstructions.png"))[TOP:, GAP:][:256, :256], original)


def test_weights_without_a_decoder_are_refused(folder, model):
    encoder = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("encoder.")}
    torch.save({"model": encoder}, "encoder.pth")
    with pytest.raises(InputError, match="encoder.pth holds an encoder without a decoder: reconstruction needs both"):
        run("images", weights="encoder.pth")
    single_scale = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fusion.")}
    torch.save({"model": single_scale}, "single.pth")
    with pytest.raises(InputError, match="set MODEL.MAE.MULTI_SCALE_DECODER False"):
        run("images", weights="single.pth")
    run("images", "MODEL.MAE.MULTI_SCALE_DECODER", "False", weights="single.pth")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["MODEL.MAE.MASK_RATIO", "0.5"], "no image is named"),
        (["nothing.png"], "nothing.png can't be read as an image"),
        (["images", "--max-images", "0"], "--max-images is 0"),
        (["images", "INPUT.FORMAT", "L"], "PIXEL_MEAN has 3 entries, but INPUT.FORMAT L has 1 channels"),
        (["images", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "describes a GeneralizedRCNN"),
        (["images", "--output", "a.jpg"], r"end in \.png"),
        (["images", "--output", "missing/a.png"], "can't be written"),
        (["empty"], "holds no images"),
    ],
)
def test_what_is_wrong_is_said(folder, words, sentence):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=sentence):
        run(*words)
    assert not list(folder.glob("*.png"))


def test_missing_files_are_named(folder):
    with pytest.raises(InputError, match="none.pth"):
        run("images", weights="none.pth")
    with pytest.raises(InputError, match="none.yaml"):
        run("images", config="none.yaml")


def test_the_command_ends_with_the_sentence(folder, capsys):
    assert main(["reconstruct", "--config-file", "config.yaml", "--weights", "mae.pth", "nothing.png"]) == 1
    assert capsys.readouterr().err.startswith("error: nothing.png")
