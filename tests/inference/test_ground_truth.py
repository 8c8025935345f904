"""Each input has the id of the image that it is, or is refused."""

import json

import pytest

from convmae_det.errors import InputError
from convmae_det.inference.ground_truth import GroundTruth
from convmae_det.inference.inputs import find_inputs
from convmae_det.inference.results import _find_classes


@pytest.fixture
def make(tmp_path):
    """``make(files, listed)``: the inputs of a folder, and annotations that list images by name."""

    def make(files, listed, first="image-1"):
        for name in files:
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).touch()
        images = [
            {"id": first if number == 0 else f"image-{number + 1}", "file_name": name, "height": 9, "width": 9}
            for number, name in enumerate(listed)
        ]
        content = {"images": images, "categories": [{"id": 3, "name": "x"}], "annotations": []}
        (tmp_path / "truth.json").write_text(json.dumps(content))
        inputs = find_inputs([str(tmp_path / "in" / name) for name in files], str(tmp_path / "out"))
        return GroundTruth(str(tmp_path / "truth.json")), inputs

    return make


@pytest.mark.parametrize(
    "files, listed",
    [
        (["train/a.png", "val/a.png"], ["train/a.png", "val/a.png"]),
        (["a.png", "sub/a.png"], ["a.png", "sub/a.png"]),
        (["train/a.png", "val/b.png"], ["train\\a.png", "b.png"]),
    ],
)
def test_ids_are_those_of_the_images(make, files, listed):
    truth, inputs = make(files, listed)
    assert truth.select_listed(inputs) == inputs
    assert list(truth.image_ids(inputs)) == ["image-1", "image-2"]


def test_what_is_not_listed_is_left_out(make):
    truth, inputs = make(["train/a.png", "val/a.png", "c.png"], ["val/a.png"], first=7)
    assert [entry.file_name for entry in truth.select_listed(inputs)] == ["val/a.png"]
    assert list(truth.image_ids(truth.select_listed(inputs))) == [7]


@pytest.mark.parametrize("files", [["train/a.png", "val/a.png"], ["a.png", "sub/a.png"]])
def test_two_inputs_of_one_image_are_refused(make, files):
    truth, inputs = make(files, ["a.png"])
    with pytest.raises(InputError, match="a.png and .*a.png both may be .*a.png, which .*truth.json lists"):
        truth.select_listed(inputs)


def test_two_images_of_one_name_are_refused(make):
    with pytest.raises(InputError, match="lists 2 images, some of them of the same file name"):
        make(["a.png"], ["a.png", "./a.png"])


class Detector:
    class_names, category_ids = ["box (1)", "3", "1", "box (9)", "a/b"], [1, 2, 3, 9, 10]


@pytest.mark.parametrize(
    "words, numbers",
    [(["box (9)"], [3]), (["3", "a/b"], [1, 4]), (["9"], [3]), (["1"], [2]), (["2"], [1]), ([], [0, 1, 2, 3, 4])],
)
def test_classes_by_name_and_id(words, numbers, capsys):
    assert _find_classes(words, Detector()).tolist() == numbers
    noted = [word for word in words if word in ("1", "3")]
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [f"--classes {x}" for x in noted]


def test_a_name_of_two_classes_is_none():
    with pytest.raises(InputError, match=r"--classes: box is none .* box \(1\) \(1\), 3 \(2\)"):
        _find_classes(["box"], Detector())
