"""`convmae-det evaluate`: annotations and results of any tool to numbers, or to a sentence on what is wrong."""

import gzip
import json
import os
from pathlib import Path

import pytest

from convmae_det.cli import evaluate
from convmae_det.cli.main import main
from convmae_det.errors import InputError

CASES = Path(os.environ.get("DETECTRON2_DATASETS", Path(__file__).parents[3] / "shared" / "data")).parent / "cases"
BOX, OTHER = [10, 12, 30, 38], [52, 50, 32, 36]


def outline(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """``files(change)``: truth.json and results.json in the current folder, of which all is right."""
    monkeypatch.chdir(tmp_path)

    def write(change=None):
        truth = {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 96} for i in (1, 2)],
            "categories": [{"id": 1, "name": "box"}, {"id": 2, "name": "disc"}],
            "annotations": [
                {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, "area": box[2] * box[3]}
                | {"bbox": box, "segmentation": outline(*box)}
                for number, (image, category, box) in enumerate([(1, 1, BOX), (1, 2, OTHER), (2, 1, BOX)], start=1)
            ],
        }
        results = [
            {name: entry[name] for name in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.9}
            for entry in truth["annotations"]
        ]
        changed = change(truth, results) if change else None
        Path("truth.json").write_text(json.dumps(truth))
        Path("results.json").write_text(json.dumps(results) if changed is None else changed)

    return write


def run(*words):
    evaluate.main(["truth.json", "results.json", *words])


def test_all_is_said_and_written(files, capsys):
    files()
    run("--json", "all.json", "--thresholds", "thresholds.json")
    said = capsys.readouterr().out
    assert said.endswith("\nbox AP 100.000\nmask AP 100.000\n")
    assert "2 images, 3 objects, 3 detections" in said and "AP50 to gain" in said and "Calibration error" in said
    found = json.loads(Path("all.json").read_text())
    assert found["tasks"]["segm"]["images"][0]["correct"] == 2
    classes = json.loads(Path("thresholds.json").read_text())["classes"]
    assert classes == {"box": 0.9, "disc": 0.9}


def remove_masks(truth, results):
    for result in results:
        del result["segmentation"]


def remove_outlines(truth, results):
    for annotation in truth["annotations"]:
        annotation["segmentation"] = []


def rename(truth, results):
    """Ids as text, of which one looks like a number, and as numbers that are written as text or with a point."""
    names = {1: "007", 2: "b"}
    for image in truth["images"]:
        image["id"] = names[image["id"]]
    for entry in (*truth["annotations"], *results):
        entry["image_id"] = names[entry["image_id"]]
        entry["category_id"] = str(entry["category_id"])


def write_numbers_as_text(truth, results):
    for result in results:
        result["image_id"], result["category_id"] = str(result["image_id"]), float(result["category_id"])
        result |= {"file_name": "x.png", "frame": 3}


def leave_out(truth, results):
    for annotation in truth["annotations"]:
        del annotation["iscrowd"], annotation["area"]


@pytest.mark.parametrize("change", [remove_masks, remove_outlines, rename, write_numbers_as_text, leave_out])
def test_what_other_tools_write(files, capsys, change):
    files(change)
    run()
    boxes = change in (remove_masks, remove_outlines)
    assert capsys.readouterr().out.endswith("\nbox AP 100.000\n" if boxes else "\nbox AP 100.000\nmask AP 100.000\n")


def test_crowds_that_are_objects(files, capsys):
    files(lambda truth, results: [annotation.update(iscrowd=1) for annotation in truth["annotations"]] and None)
    with pytest.raises(InputError, match="truth.json has no object: all 3 annotations are crowds .*--crowd-as-objects"):
        run()
    run("--crowd-as-objects")
    assert capsys.readouterr().out.endswith("\nbox AP 100.000\nmask AP 100.000\n")


def test_without_detections_there_is_no_threshold(files, capsys):
    files(lambda truth, results: results.clear())
    Path("thresholds.json").write_text("before")
    with pytest.raises(InputError, match="--thresholds thresholds.json is not written, for nothing was found"):
        run("--thresholds", "thresholds.json", "--json", "all.json")
    said = capsys.readouterr().out
    assert said.endswith("\nbox AP 0.000\n") and "Calibration" not in said and Path("all.json").exists()
    assert Path("thresholds.json").read_text() == "before"


def test_names_stay_in_their_row(files, capsys):
    files(lambda truth, results: truth["categories"][0].update(name="a\nb\x1b[31m\ud800"))
    run()
    assert "| a\\nb\\x1b[31m\\ud800 " in capsys.readouterr().out


def test_results_that_are_packed(files):
    files()
    Path("results.json").write_bytes(gzip.compress(Path("results.json").read_bytes()))
    with pytest.raises(InputError, match="results.json is packed by gzip: unpack it"):
        run()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--json", "a.json", "--thresholds", "./a.json"], "--json and --thresholds are both a.json: name two files"),
        (["--max-detections", "99"], "--max-detections is 99; it must be at least 100"),
    ],
)
def test_options_that_make_no_sense(files, words, sentence):
    files()
    with pytest.raises(InputError, match=sentence):
        run(*words)


def test_masks_may_be_left_out(files, capsys):
    files(lambda truth, results: truth["annotations"][1].pop("segmentation") and None)
    with pytest.raises(InputError, match="truth.json: annotation 2 has no mask.*--boxes-only"):
        run()
    run("--boxes-only")
    assert capsys.readouterr().out.endswith("\nbox AP 100.000\n")


def break_masks(truth, results):
    """Each of another kind, and one of the annotations; one result has none."""
    truth["annotations"][0]["segmentation"] = {"size": [4, 4], "counts": "0"}
    truth["annotations"][1]["segmentation"] = ["?"]
    results[0]["segmentation"], results[1]["segmentation"] = [], None
    del results[2]["segmentation"]


def break_one_mask(truth, results):
    results[1]["segmentation"] = {"size": [4, 4], "counts": "0"}
    del results[0]["bbox"]  # whose mask gives the box


@pytest.mark.parametrize("change", [break_masks, break_one_mask])
def test_masks_that_are_left_out_are_no_matter(files, capsys, change):
    files(change)
    run("--boxes-only")
    assert capsys.readouterr().out.endswith("\nbox AP 100.000\n")


@pytest.mark.parametrize("empty", [None, []])
def test_masks_that_are_all_empty_are_none(files, capsys, empty):
    files(lambda truth, results: [result.update(segmentation=empty) for result in results] and None)
    run()
    assert capsys.readouterr().out.endswith("\nbox AP 100.000\n")


def test_masks_alone_have_boxes_around_them(files, capsys):
    files(lambda truth, results: [result.pop("bbox") for result in results] and None)
    run()
    assert capsys.readouterr().out.endswith("\nbox AP 100.000\nmask AP 100.000\n")


def crowd(truth, results):
    """120 small objects in an image, all found."""
    places = [[8 * (i % 12), 8 * (i // 12), 4, 4] for i in range(120)]
    truth["annotations"] = [
        truth["annotations"][0] | {"id": i, "bbox": place, "area": 16} for i, place in enumerate(places)
    ]
    results[:] = [
        {"image_id": 1, "category_id": 1, "bbox": place, "score": 1 - i / 200} for i, place in enumerate(places)
    ]


def test_more_than_a_hundred_are_counted_by_themselves(files, capsys):
    files(crowd)
    run()
    *_, first, last = capsys.readouterr().out.splitlines()
    assert first == "box AP@120 100.000" and last.startswith("box AP 8")
    run("--max-detections", "110")
    assert "box AP@110 " in capsys.readouterr().out


def set_result(**fields):
    def change(truth, results):
        results[1] |= fields

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda truth, results: "", "results.json is not JSON"),
        (lambda truth, results: "[1, ", "results.json is not JSON"),
        (lambda truth, results: '{"results": []}', "holds no list of results"),
        (lambda truth, results: json.dumps(truth), "is an annotation file, .*: name the annotations first"),
        (lambda truth, results: json.dumps(truth["annotations"]), "result 1 has no 'score'"),
        (lambda truth, results: "[3]", "result 1 is '3', not an object"),
        (set_result(score="high"), "result 2 has the score 'high'"),
        (set_result(score=float("nan")), "result 2 has the score nan"),
        (set_result(score=90.5), "result 2 has the score 90.5, but scores are 0 to 1: .* percent by dividing by 100"),
        (set_result(score=-0.1), "result 2 has the score -0.1, but scores are 0 to 1"),
        (set_result(image_id=77), "result 2 is of image 77, which the annotations don't have"),
        (set_result(image_id=[1]), r"result 2 is of image \[1\]"),
        (set_result(category_id=77), "result 2 is of category 77"),
        (set_result(bbox=[1, 2, 3]), "result 2 has the box"),
        (set_result(bbox=[1, 2, -3, 4]), "result 2 has the box"),
        (set_result(segmentation={"size": [4, 4], "counts": "0"}), "result 2 has a mask of size"),
        (set_result(segmentation={"size": [96, 96], "counts": "0"}), "run lengths don't add up"),
        (set_result(segmentation=[]), "result 2 has a mask without outlines"),
        (set_result(segmentation=7), "result 2 has the mask 7"),
        (
            lambda truth, results: results[1].pop("segmentation") and None,
            "result 2 has no mask, though others have: .*--boxes-only",
        ),
        (lambda truth, results: truth.pop("annotations") and None, "truth.json: it has no field 'annotations'"),
        (lambda truth, results: truth["annotations"].clear(), "truth.json has no object: annotate some"),
    ],
)
def test_what_is_wrong_is_said(files, change, sentence):
    files(change)
    with pytest.raises(InputError, match=sentence):
        run("--json", "all.json")
    assert not Path("all.json").exists()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("none/all.json", "its folder doesn't exist"),
        (".", "is a folder: name a file in it"),
        ("results.json", "--json results.json would replace what is read"),
    ],
)
def test_files_that_can_not_be_written(files, path, sentence):
    files()
    before = Path("results.json").read_text()
    with pytest.raises(InputError, match=sentence):
        run("--json", path)
    assert Path("results.json").read_text() == before


def test_the_command_ends_with_the_sentence(files, capsys):
    files()
    assert main(["evaluate", "none.json", "results.json"]) == 1
    assert capsys.readouterr().err.startswith("error: none.json can't be read")
    assert main(["evaluate", "truth.json", "results.json", "--max-detections", "0"]) == 1


WITH_PLAIN_RESULTS = ("annotation_ids_from_0", "annotation_ids_text", "annotation_ids_huge", "no_iscrowd", "no_area")
WITH_PLAIN_RESULTS += ("area_0", "brush_masks_as_crowd", "windows_paths", "byte_order_mark", "names_cjk_slash", "plain")


@pytest.mark.skipif(not CASES.exists(), reason="needs ../shared/cases")
@pytest.mark.parametrize("name", [*WITH_PLAIN_RESULTS, "image_ids_text", "two_categories_of_one_name"])
def test_cases(name, tmp_path, capsys):
    results, text = CASES / "plain_results.json", (CASES / f"{name}.json").read_bytes().decode("utf-8-sig")
    if name not in WITH_PLAIN_RESULTS:
        fields = ("image_id", "category_id", "bbox")
        right = [{field: a[field] for field in fields} | {"score": 0.9} for a in json.loads(text)["annotations"]]
        results = tmp_path / "results.json"
        results.write_text(json.dumps(right))
    options = ["--crowd-as-objects"] if name == "brush_masks_as_crowd" else []
    evaluate.main([str(CASES / f"{name}.json"), str(results), *options])
    assert capsys.readouterr().out.endswith("\nbox AP 100.000\n")


@pytest.mark.skipif(not CASES.exists(), reason="needs ../shared/cases")
def test_case_of_many_objects(capsys):
    evaluate.main([str(CASES / "dense_196.json"), str(CASES / "dense_196_results.json"), "--max-detections", "300"])
    assert capsys.readouterr().out.endswith("\nbox AP@300 100.000\nbox AP 51.485\n")
