"""Each fault is found where it is, and nothing else; data without a fault have no findings."""

import io

import numpy as np
import pytest
from PIL import Image

from convmae_det.data.inspection import inspection
from convmae_det.data.inspection.findings import Finding, Severity
from convmae_det.data.inspection.inspection import run_checks

NOTE, WARNING, ERROR = Severity
SIZE = 96, 64  # width, height of the images


def found(account):
    return [(finding.check, finding.severity) for finding in account.findings]


def only(account):
    (finding,) = account.findings
    return finding


def test_data_without_a_fault(data):
    account = data.check()
    assert not account.findings
    assert [len(split.paths) for split in account.splits] == [10, 3]


def outline(annotation, *corners):
    annotation["segmentation"] = [list(corners)]


def box(annotation, *numbers):
    """Gives an annotation a box, and no mask that it could disagree with: those of crowds are not compared."""
    x, y, w, h = numbers
    annotation |= {"bbox": list(numbers), "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}


def twice(content, **changes):
    content["annotations"].append(content["annotations"][1] | {"id": 900} | changes)


# by name: what spoils the file of the training data, what is found, with its severity, and of which annotation
FAULTS = {
    "no image of that id": (lambda c: c["annotations"][3].update(image_id=99), "refused-entries", ERROR, 4),
    "no number in a box": (lambda c: c["annotations"][3].update(bbox=[1, 2, 3, None]), "refused-entries", ERROR, 4),
    "no such field": (lambda c: c["annotations"][3].pop("category_id"), "refused-entries", ERROR, 4),
    "an id twice": (lambda c: twice(c, id=4, image_id=2, bbox=[1, 1, 9, 9]), "refused-entries", ERROR, 4),
    "a box outside": (lambda c: box(c["annotations"][5], 80, 10, 30, 20), "boxes-outside-images", WARNING, 6),
    "another mask": (lambda c: c["annotations"][5].update(bbox=[5, 6, 40, 40]), "boxes-unlike-masks", WARNING, 6),
    "one pixel": (lambda c: box(c["annotations"][5], 10, 10, 1, 30), "tiny-objects", WARNING, 6),
    "a line": (lambda c: box(c["annotations"][5], 10, 10, 40, 0.5), "tiny-objects", WARNING, 6),
    "a tiny outline": (lambda c: outline(c["annotations"][4], 5, 6, 35, 26, 35, 26.1), "tiny-objects", WARNING, 5),
    "two corners": (lambda c: outline(c["annotations"][4], 5, 6, 35, 26), "tiny-objects", WARNING, 5),
    "an 8": (lambda c: outline(c["annotations"][4], 5, 6, 35, 6, 5, 26, 35, 26), "crossing-outlines", WARNING, 5),
    "an object twice": (twice, "objects-annotated-twice", WARNING, 900),
    "two classes": (lambda c: twice(c, category_id=7), "objects-annotated-twice", NOTE, 900),
    "no mask": (lambda c: c["annotations"][2].pop("segmentation"), "objects-without-masks", WARNING, 3),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_objects(data, fault):
    spoil, check, severity, number = FAULTS[fault]
    for entry, x in zip(data.train["annotations"][:2], (30, 70), strict=True):  # enough of each without the spoilt ones
        more = entry | {"id": entry["id"] + 100}
        box(more, x, 2, 20, 20)
        data.train["annotations"].append(more)
    spoil(data.train)
    account = data.check()
    assert found(account) == [(check, severity)]
    (example,) = only(account).examples
    assert example.annotation == number or str(number) in example.detail
    assert only(account).count == 1


def test_a_small_loop_does_no_harm(data):
    outline(data.train["annotations"][0], 5, 6, 35, 6, 35, 26, 5, 26, 5, 16, 4.8, 16.2, 5, 16.2, 4.8, 16)
    assert found(data.check()) == [("crossing-outlines", NOTE)]


def test_crowds(data):
    data.test["annotations"][0]["iscrowd"] = 1
    assert found(data.check()) == [("crowd-regions", NOTE)]
    for annotation in data.train["annotations"]:
        annotation["iscrowd"] = 1
    assert ("crowd-regions", ERROR) in found(data.check())
    assert not data.check("DATASETS.CROWD_AS_OBJECTS", "True").findings


def test_masks_that_training_would_refuse(data):
    for annotation in data.train["annotations"] + data.test["annotations"]:
        del annotation["segmentation"]
    assert found(data.check()) == [("objects-without-masks", NOTE)] * 2
    assert found(data.check(configured=True))[:2] == [("objects-without-masks", ERROR)] * 2
    assert not data.check("MODEL.MASK_ON", "False").findings


def test_run_lengths_where_polygons_are_needed(data):
    width, height = SIZE
    mask = {"size": [height, width], "counts": [5 * height + 6, 20, *[44, 20] * 29, (width - 35) * height + 38]}
    data.train["annotations"][0]["segmentation"] = mask
    assert not data.check().findings
    sizes = [word for key in ("LSJ.IMAGE_SIZE", "MIN_SIZE_TEST", "MAX_SIZE_TEST") for word in (f"INPUT.{key}", "96")]
    account = data.check(*sizes, configured=True)
    assert found(account) == [("objects-without-masks", ERROR)]
    assert "INPUT.MASK_FORMAT bitmask" in only(account).advice


def test_images_without_objects(data):
    data.test["annotations"] = [entry for entry in data.test["annotations"] if entry["image_id"] > 1]
    account = data.check()
    assert found(account) == [("images-without-objects", NOTE)]
    assert only(account).examples[0].files == (str(data.photos / "test0.png"),)


def test_no_objects_at_all(data):
    data.train["annotations"] = []
    assert ("images-without-objects", ERROR) in found(data.check())


# --- classes


def test_empty_and_rare_classes(data):
    for content in (data.train, data.test):
        content["categories"].append({"id": 91, "name": "wasp"})
    assert found(data.check()) == [("empty-classes", WARNING)]
    data.train["annotations"][0]["category_id"] = 91
    account = data.check()
    assert found(account) == [("rare-classes", WARNING), ("classes-in-one-part", NOTE)]
    assert "wasp (1), ant (9)" in account.findings[0].problem


def test_a_class_in_the_test_data_alone(data):
    for content in (data.train, data.test):
        content["categories"].append({"id": 91, "name": "wasp"})
    data.test["annotations"][0]["category_id"] = 91
    account = data.check()
    assert found(account) == [("classes-in-one-part", WARNING)]
    assert "wasp" in only(account).problem


def test_other_categories(data):
    data.test["categories"][1]["name"] = "Bee"
    account = data.check()
    assert found(account)[:1] == [("different-categories", ERROR)]
    assert "train lacks Bee; test lacks bee" in account.findings[0].problem
    assert ("names-alike", WARNING) in found(account)


# --- image files


def test_missing_images(data):
    (data.photos / "train3.png").unlink()
    account = data.check()
    assert found(account) == [("missing-images", ERROR)]
    assert only(account).examples[0].files == (str(data.photos / "train3.png"),)


@pytest.mark.parametrize("content", [b"", b"no image", "truncated"])
def test_unreadable_images(data, content):
    if content == "truncated":
        buffer = io.BytesIO()
        data.draw(50).save(buffer, "JPEG")
        content = buffer.getvalue()[:-200]
    data.replace("train3.png", content)
    account = data.check()
    assert found(account) == [("unreadable-images", ERROR)]
    (example,) = only(account).examples
    assert example.files == (str(data.photos / "train3.png"),) and "can't be read as an image" in example.detail


def test_images_of_other_size(data):
    data.replace("train3.png", data.draw(3).resize((64, 96)))
    account = data.check()
    assert found(account) == [("images-of-other-size", ERROR)]
    assert account.findings[0].examples[0].detail == "64×96; annotated as 96×64"


def save_turned(data, orientation, size=SIZE):
    exif = Image.Exif()
    exif[274] = orientation
    data.replace("train3.png", data.draw(60).resize(size), exif=exif)


def test_turned_photos(data):
    save_turned(data, 3)
    account = data.check()
    assert found(account) == [("turned-photos", WARNING)]
    assert only(account).advice.endswith("set INPUT.IGNORE_EXIF True if they were not")
    save_turned(data, 6)
    account = data.check()
    assert account.findings[0].check == "images-of-other-size"
    assert "once turned as its EXIF orientation says" in account.findings[0].examples[0].detail
    assert not data.check("INPUT.IGNORE_EXIF", "True").findings


def test_images_of_many_bits(data):
    values = np.asarray(data.draw(70).convert("L")).astype(np.uint16) * 16
    data.replace("train3.png", Image.fromarray(values))
    account = data.check()
    assert found(account) == [("what-reading-said", NOTE)]
    assert "INPUT.WHITE_LEVEL is 4095" in only(account).problem


def test_images_that_no_file_lists(data):
    data.replace("more.png", data.draw(80))
    account = data.check()
    assert found(account) == [("unlisted-images", NOTE)]
    assert only(account).examples[0].files == (str(data.photos / "more.png"),)


# --- copies


def test_training_images_among_the_test_images(data):
    data.replace("test0.png", (data.photos / "train3.png").read_bytes())
    account = data.check()
    assert found(account) == [("images-in-both-parts", ERROR)]
    assert only(account).examples[0].files == (str(data.photos / "train3.png"), str(data.photos / "test0.png"))


def test_the_same_data_twice(data):
    data.test = data.train
    account = data.check()
    assert found(account) == [("images-in-both-parts", ERROR), ("unlisted-images", NOTE)]
    assert account.findings[0].count == 10


@pytest.mark.parametrize("change", ["compressed", "smaller", "brighter"])
def test_training_images_that_were_changed_a_little(data, change):
    image = data.draw(3)  # of train3.png
    if change == "smaller":
        image = image.resize((48, 32)).resize(SIZE)
    data.replace("test0.png", Image.eval(image, lambda value: min(value + 9, 255)) if change == "brighter" else image)
    if change == "compressed":
        image.save(data.photos / "test0.jpg", quality=60)
        (data.photos / "test0.png").unlink()
        data.test["images"][0]["file_name"] = "test0.jpg"
    account = data.check()
    assert found(account) == [("similar-images-in-both-parts", WARNING)]
    assert only(account).examples[0].files[0] == str(data.photos / "train3.png")


def test_copies_in_the_same_part(data):
    data.replace("train5.png", (data.photos / "train3.png").read_bytes())
    account = data.check()
    assert found(account) == [("duplicate-images", WARNING)]
    assert [path[-10:] for path in only(account).examples[0].files] == ["train3.png", "train5.png"]


def test_an_image_that_is_listed_twice(data):
    data.train["images"][5]["file_name"] = "train3.png"
    (data.photos / "train5.png").unlink()
    account = data.check()
    assert found(account) == [("duplicate-images", WARNING)]
    assert only(account).examples[0].detail == "listed 2 times"


def test_similar_images_in_the_same_part(data):
    data.replace("train5.png", Image.eval(data.draw(3), lambda value: min(value + 5, 255)))
    assert found(data.check()) == [("similar-images", NOTE)]


# --- sizes


def test_objects_small_for_the_input(data):
    small = data.check("INPUT.LSJ.IMAGE_SIZE", "48")
    assert found(small) == [("objects-small-for-input", WARNING), ("objects-sized-otherwise", WARNING)]
    assert "100% of the objects of train are smaller than 16 pixels" in small.findings[0].problem
    assert "at twice the size 0% would be" in small.findings[0].advice


def test_images_that_are_enlarged(data):
    assert found(data.check(configured=True)) == [("small-images", NOTE)]


def test_long_objects(data):
    for annotation in data.train["annotations"][:4]:
        box(annotation, 5, 6, 80, 10)
    account = data.check()
    assert ("objects-unlike-anchors", NOTE) in found(account)


# --- the others go on


def test_a_check_that_fails_stops_no_other(data, monkeypatch):
    def broken_check(data):
        yield Finding(NOTE, "it began")
        raise ZeroDivisionError("of the check")

    def other_check(data):
        yield Finding(ERROR, "the other")

    findings = run_checks([broken_check, other_check], None)
    assert [finding.check for finding in findings] == ["other-check", "broken-check", "broken-check"]
    assert "(ZeroDivisionError: of the check)" in findings[1].problem


def test_a_file_that_cannot_be_read_stops_no_other(data, tmp_path):
    data.test = "no JSON"
    account = data.check()
    assert ("unreadable-data-sets", ERROR) in found(account)
    assert [bool(split.problem) for split in account.splits] == [False, True]


def test_warnings_go_where_they_went_before(data):
    logger = inspection.logging.getLogger("convmae_det.data")
    before = list(logger.handlers), logger.propagate
    data.check()
    assert (list(logger.handlers), logger.propagate) == before
