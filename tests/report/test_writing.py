"""A report says what its folder holds, without what is missing, in a file that can be sent."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from reference.runs import CLASSES, make_data, read, write_config, write_metrics

from convmae_det.cli import report
from convmae_det.errors import InputError
from convmae_det.evaluation.explanation import explain_results
from convmae_det.evaluation.panoptic import summarize as summarize_segments
from convmae_det.evaluation.segmentation import count_confusion, encode_mask, summarize
from convmae_det.report import writing
from convmae_det.report.writing import write_report, write_report_at_end


def list_titles(html):
    return re.findall(r"<h3[^>]*>(.*?)</h3>", html)


def test_a_detector_is_explained(detector_page):
    html = read(detector_page)
    assert list_titles(html) == [
        "What is wrong with the detector on cells",
        "Kinds of errors",
        "Images with their errors",
        "Classes",
        "Precision and recall",
        "Which classes are confused",
        "What scores mean",
        "Sizes of objects",
        "Training",
        "The run",
    ]
    assert html.count("<image ") == 3 and "A CPU" in html and "01:01 for 200 iterations" in html
    for kind in ("missed", "class", "localisation", "duplicate", "background", "correct"):
        assert re.search(rf'<g class="mark [^"]*kind-{kind}"', html), kind


def test_a_strangers_names_are_escaped_and_nothing_is_loaded(detector_page):
    html = read(detector_page)
    assert CLASSES[1] not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert html.count("<script") == 1 and "train '<b>'" not in html
    sources = re.findall(r'\b(?:src|href|data|action|poster|srcset)="([^"]*)"', html)
    assert sources and all(source.startswith(("#", "data:")) for source in sources)
    assert not re.search(r"https?://", html) and "@import" not in html and "url(" not in html


def test_the_file_is_small_whatever_is_in_it(detector_run, tmp_path, monkeypatch):
    full = len(write_report(detector_run, tmp_path / "full.html").read_bytes())
    monkeypatch.setattr(writing, "LARGEST", full - 1)
    monkeypatch.setattr(writing, "PICTURES", full)
    path = write_report(detector_run, tmp_path / "small.html")
    assert path.stat().st_size < full
    monkeypatch.setattr(writing, "PICTURES", 0)
    html = read(write_report(detector_run, tmp_path / "bare.html"))
    assert "<image " not in html and "too large to be sent" in html


def test_a_file_that_is_large_without_pictures_is_said_to_be(pretraining_run, monkeypatch, caplog):
    write_report(pretraining_run)
    assert not caplog.text
    monkeypatch.setattr(writing, "LARGEST", 1000)
    assert "<img " not in read(write_report(pretraining_run))
    assert "MB even without pictures" in caplog.text


@pytest.fixture
def moved_run(detector_run, tmp_path):
    """``moved_run(text, other)``: a copy of the run, with a part of its configuration replaced."""

    def move(text, other):
        folder = shutil.copytree(detector_run, tmp_path / "moved")
        path = folder / "config.yaml"
        path.write_text(path.read_text().replace(text, other))
        return folder

    return move


def test_images_that_have_moved_are_said_to_be_missing(moved_run, detector_run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder = moved_run(f"{detector_run.parent}/data\n", f"{tmp_path}/elsewhere\n")
    html = read(write_report(folder))
    assert "3 pictures are missing, the first because" in html and "<image " not in html
    assert "Kinds of errors" in html and "Sizes of objects" in html


def write_explanation(folder):
    explanation = explain_results(*make_data(), ("bbox", "segm"), verdicts=False)
    (folder / "inference" / "evaluation.json").write_text(json.dumps(explanation))


def test_without_annotations_the_rest_remains(moved_run):
    folder = moved_run("truth.json", "gone.json")
    html = read(write_report(folder))
    assert "gone.json" in html and "Training" in html and "Kinds of errors" not in html


def test_without_annotations_the_numbers_of_the_evaluation_serve(moved_run):
    folder = moved_run("truth.json", "gone.json")
    write_explanation(folder)
    html = read(write_report(folder))
    assert "There are no pictures: " in html and "Kinds of errors" in html and "Images with" not in html


@pytest.mark.parametrize("categories, told", [("[]", "gone.json"), ("[[1, bird], [2, egg]]", "no longer those")])
def test_changed_data_cost_neither_the_numbers_nor_the_run(moved_run, categories, told):
    folder = moved_run("truth.json", "gone.json" if categories == "[]" else "truth.json")
    path = folder / "config.yaml"
    path.write_text(re.sub(r"CATEGORIES:\n(  +- .*\n)+", f"CATEGORIES: {categories}\n", path.read_text()))
    write_explanation(folder)
    html = read(write_report(folder))
    assert told in html and list_titles(html)[-2:] == ["Training", "The run"]
    assert "Kinds of errors" in html and "Images with" not in html


@pytest.mark.parametrize("results", ['[{"image_id":1', '[{"image_id": 1}]', '{"images": []}', "[" * 100_000])
@pytest.mark.parametrize("explanation", ['{"x', "[1]", '{"tasks": {}, "images": 1, "objects": 1}'])
def test_half_written_results_cost_only_themselves(detector_run, tmp_path, results, explanation):
    folder = shutil.copytree(detector_run, tmp_path / "half")
    (folder / "inference" / "coco_instances_results.json").write_text(results)
    (folder / "inference" / "evaluation.json").write_text(explanation)
    html = read(write_report(folder))
    assert list_titles(html) == ["Detector on cells", "Training", "The run"]
    assert "coco_instances_results.json" in html


def test_an_evaluation_of_another_layout_costs_only_itself(moved_run):
    folder = moved_run("truth.json", "gone.json")
    (folder / "inference" / "evaluation.json").write_text('{"tasks": {"bbox": {}}, "images": 1, "objects": 1}')
    html = read(write_report(folder))
    assert list_titles(html) == ["Training", "The run", "What is missing"] and "not as this version writes it" in html


@pytest.mark.parametrize(
    "study", ['{"study": "x"', '{"study": "x"}', '{"study": 1, "metrics": [1], "runs": 1, "table": 1}']
)
def test_a_half_written_study_leaves_the_other_runs(pretraining_run, study):
    folder = pretraining_run.parent / "study"
    folder.mkdir()
    (folder / "study.json").write_text(study)
    html = read(write_report(folder.parent))
    assert "What is missing" in html and "Reconstructions" in html and str(folder) in html


def test_a_half_written_classifier(tmp_path):
    write_config(tmp_path, "MODEL.META_ARCHITECTURE", "ImageClassifier", "DATASETS.TEST", ("bees", "wasps"))
    for name in ("bees", "wasps"):
        (tmp_path / "inference" / name).mkdir(parents=True)
        (tmp_path / "inference" / name / "classification_results.json").write_text('{"classes": [')
    html = read(write_report(tmp_path))
    assert list_titles(html)[:3] == ["Classifier on bees", "Classifier on wasps", "The run"]
    assert html.count("evaluate again with --eval-only") == 2


def test_a_run_that_is_not_evaluated_yet(detector_run, tmp_path):
    folder = shutil.copytree(detector_run, tmp_path / "young", ignore=shutil.ignore_patterns("inference", "*.json"))
    html = read(write_report(folder))
    assert list_titles(html) == ["The run", "What is missing"] and "There are no curves" in html
    assert "not recorded" in html


def test_a_configuration_of_another_program(tmp_path):
    (tmp_path / "config.yaml").write_text("NO_SUCH_KEY: 1\n")
    write_metrics(tmp_path)
    html = read(write_report(tmp_path))
    assert list_titles(html) == ["Training", "What is missing"] and "NO_SUCH_KEY" in html


def test_pretraining(pretraining_run):
    html = read(write_report(pretraining_run))
    assert list_titles(html) == ["What the pretraining has come to", "Reconstructions", "Training", "The run"]
    assert html.count("<img ") == 2 and html.index("after 200") < html.index("after 100")
    assert "k-NN top-1, %, flowers" in html and "4.5" in html


def test_pretraining_without_pictures(pretraining_run):
    shutil.rmtree(pretraining_run / "reconstructions")
    assert "convmae-det reconstruct draws them" in read(write_report(pretraining_run))


def test_a_folder_of_several_runs(pretraining_run, detector_run):
    shutil.copytree(detector_run, pretraining_run.parent / "detector")
    (pretraining_run.parent / "predictions").mkdir()
    html = read(write_report(pretraining_run.parent))
    assert sorted(re.findall(r"<h2>(.*?)</h2>", html)) == ["detector", "pretrain"]
    assert "Reconstructions" in html and "Kinds of errors" in html


def test_a_classifier(tmp_path, detector_run):
    (tmp_path / "inference").mkdir()
    categories = [[0, "bee"], [1, "wasp"]]
    names = ["DATASETS.TEST", ("insects",), "DATASETS.CATEGORIES", categories, "MODEL.CLASSIFIER.NUM_CLASSES", 2]
    write_config(tmp_path, "MODEL.META_ARCHITECTURE", "ImageClassifier", *names)
    image = str(detector_run.parent / "data" / "0.png")
    summary = {
        "images": 10,
        "top1": 70.0,
        "top5": 100.0,
        "class_mean": 62.5,
        "classes": [{"name": "bee", "accuracy": 75.0, "images": 8}, {"name": "wasp", "accuracy": 50.0, "images": 2}],
        "confusion": [[6, 2], [1, 1]],
        "mistakes": [
            {"file_name": image, "label": 0, "found": 1, "score": 0.9},
            {"file_name": "gone.png", "label": 0, "found": 1, "score": 0.8},
        ],
    }
    (tmp_path / "inference" / "classification_results.json").write_text(json.dumps(summary))
    html = read(write_report(tmp_path))
    assert "It confuses bee and wasp most: 3 of its 3 mistakes" in html and "Rare classes do worse" in html
    assert "taken for wasp (90%), is bee" in html and html.count("<img ") == 1 and "gone.png" in html


def test_a_segmentor(tmp_path):
    """Classes, confusions, and the worst images as they are labelled and as they were found."""
    rng = np.random.default_rng(0)
    truth, found = (rng.integers(0, 2, (20, 30)).astype(np.uint8) for _ in range(2))
    for name, pixels in (("image", rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)), ("mask", truth)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    confusion = count_confusion(truth, found, 3, 255)
    summary = summarize(confusion, np.stack([confusion.diagonal(), confusion.sum(1)]), ["sky", "sea", "ship"])
    paths = {"file_name": str(tmp_path / "image.png"), "sem_seg_file_name": str(tmp_path / "mask.png")}
    entry = paths | {"accuracy": 48.5, "found": encode_mask(found)}
    other = entry | {"found": encode_mask(found[1:])}
    summary |= {"images": 3, "worst": [entry, entry | {"file_name": "gone.png"}, other]}
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "segmentation_results.json").write_text(json.dumps(summary))
    write_config(tmp_path, "MODEL.META_ARCHITECTURE", "SemanticSegmentor", "DATASETS.TEST", ("harbour",))
    html = read(write_report(tmp_path))
    assert list_titles(html)[0] == "What is wrong with the segmentor on harbour"
    assert "It confuses sky and sea most: 100% of the pixels that are wrong" in html and "48.5 % of the pixels" in html
    assert html.count("<img ") == 1 and "another size" in html and "A segmentor, SemanticSegmentor" in html
    (tmp_path / "inference" / "segmentation_results.json").write_text("{")
    assert "Segmentor on harbour" in read(write_report(tmp_path))


def test_a_panoptic_fpn(tmp_path):
    summary = summarize_segments(np.array([[3, 1, 1], [0, 0, 0]]), np.array([2.4, 0]), ["ship"], ["sea"])
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "panoptic_results.json").write_text(json.dumps(summary))
    write_config(tmp_path, "MODEL.META_ARCHITECTURE", "PanopticFPN", "DATASETS.TEST", ("harbour",))
    html = read(write_report(tmp_path))
    assert "Panoptic quality on harbour" in list_titles(html) and "60.0" in html


def test_a_study(tmp_path):
    runs = [
        {"variant": name, "share": share, "seed": seed, "in_table": True, "finished": True, "seconds": 60.0}
        | {"values": {"bbox/AP": value}, "curves": {"bbox/AP": [[9, value / 2], [19, value]]}, "folder": "f"}
        for name, value in (("a", 30.0), ("b", 40.0))
        for share in (0.1, 1.0)
        for seed in (1, 2)
    ]
    table = [
        {"metric": "bbox/AP", "variant": name, "share": share, "mean": mean, "deviation": 0.5, "n": 2}
        for name, mean in (("a", 30.0), ("b", 40.0))
        for share in (0.1, 1.0)
    ]
    result = {"study": "mine.yaml", "metrics": ["bbox/AP"], "runs": runs, "table": table}
    (tmp_path / "study.json").write_text(json.dumps(result))
    html = read(write_report(tmp_path))
    assert list_titles(html) == ["What the study has found", "Curves", "Runs"] and html.count("<svg") == 3
    assert "With all images, “b” is best: bbox/AP 40.0, 10.0 above “a”, more than both deviations together." in html


@pytest.mark.parametrize(
    "name, told", [("nowhere", "nowhere is no folder"), ("", "holds no run .* name the OUTPUT_DIR")]
)
def test_a_folder_without_a_run(tmp_path, name, told):
    with pytest.raises(InputError, match=told):
        write_report(tmp_path / name)


def test_at_the_end_a_failure_is_a_warning(tmp_path, caplog):
    assert write_report_at_end(tmp_path / "nowhere") is None
    assert "nowhere is no folder" in caplog.text and "all else is complete" in caplog.text


def test_the_command(pretraining_run, capsys, tmp_path):
    report.main([str(pretraining_run), "--output", str(tmp_path / "page.html")])
    assert re.match(r".*page\.html written, \d\.\d MB", capsys.readouterr().out)
