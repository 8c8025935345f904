"""convmae-det shards, and what it says."""

import io
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

from convmae_det.cli.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def test_it_says_what_it_wrote_and_how_to_name_it(folder, capsys):
    (folder / "3.png").write_bytes(b"damaged")
    assert main(["shards", "photos/", "out", "--shard-images", "2", "--short-side", "10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"out: 2 shards, 4 images, 0\.0 MB", lines[0])
    assert lines[1] == "Left out, for they can't be read: 1 images, which shards.json names."
    assert lines[2] == 'DATASETS.SHARDS \'[["photos", "out/{000000..000001}.tar"]]\''
    assert main(["shards", "photos", "one"]) == 0
    assert capsys.readouterr().out.endswith('DATASETS.SHARDS \'[["photos", "one/000000.tar"]]\'\n')


def test_arrays_of_bands(folder, capsys):
    bands = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)
    np.save(folder / "9.npy", bands)
    np.save(folder / "none.npy", np.array(["a word"]))
    assert main(["shards", "photos", "out"]) == 0
    assert "6 images" in (said := capsys.readouterr().out) and "1 images, which shards.json names" in said
    with tarfile.open("out/000000.tar") as tar:
        assert np.array_equal(np.load(io.BytesIO(tar.extractfile("9.npy").read())), bands)


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere", "out"], "nowhere doesn't exist: correct it"),
        (["photos", "photos"], "photos holds files already: name a new folder"),
        (["photos", "out", "--shard-size", "0"], "--shard-size is 0; it must be at least 1"),
        (["photos", "out", "--short-side", "-1"], "--short-side is -1; it must be at least 0"),
    ],
)
def test_what_cannot_be_done_is_said(folder, capsys, words, message):
    assert main(["shards", *words]) == 1
    assert message in capsys.readouterr().err
    assert len(list(folder.iterdir())) == 5 and not (folder.parent / "out").exists()
