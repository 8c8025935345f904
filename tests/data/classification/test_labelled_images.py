"""Every image gets the class that its folder or its row in a table says, or one sentence says what is wrong."""

import os

import pytest

from convmae_det.data.classification.labelled_images import list_labelled_images
from convmae_det.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def fill(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(root, text, encoding="utf-8"):
    (root / "table.csv").write_bytes(text.encode(encoding))
    return str(root / "table.csv")


def listed(source, root, classes=None):
    images = list_labelled_images(str(source), classes)
    return {os.path.relpath(image["file_name"], root): images.classes[image["label"]] for image in images}


def test_a_folder_is_a_class_at_any_depth(root):
    fill(root, "dog/1.jpg", "dog/a/b/2.PNG", "cat/3.jpg", "cat/.4.jpg", "cat/5.txt", ".x/6.jpg", "notes.txt")
    (root / "empty").mkdir()
    assert listed(root, root) == {"dog/1.jpg": "dog", "dog/a/b/2.PNG": "dog", "cat/3.jpg": "cat"}
    images = list_labelled_images(str(root))
    assert images.classes == ["cat", "dog"]
    assert [(image["image_id"], image["label"]) for image in images] == list(enumerate(images.labels.tolist()))


@pytest.mark.parametrize("names", [["10", "9", "2"], ["b", "B", "é", "10"], ["1", "01", "2"]])
def test_classes_are_sorted_as_numbers_if_all_are(root, names):
    fill(root, *(f"{name}/x.jpg" for name in names))
    numbers = all(name.isdecimal() for name in names)
    expected = sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names)
    assert list_labelled_images(str(root)).classes == expected


def test_a_test_part_has_the_labels_of_the_training_part(root):
    fill(root, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "test/c/2.jpg")
    train = list_labelled_images(str(root / "train"))
    test = list_labelled_images(str(root / "test"), train.classes)
    assert test.classes == train.classes
    assert test.labels.tolist() == [2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table(root, encoding):
    fill(root, "a/1.jpg", "ü, 2.jpg", "3")
    text = 'size,label,path\r\n7, 12 ,a/1.jpg\r\n7,café,"ü, 2.jpg"\r\n\r\n7,"12",a/../3\r\n'
    assert listed(write(root, text, encoding), root) == {"a/1.jpg": "12", "ü, 2.jpg": "café", "3": "12"}


def test_a_table_with_absolute_paths_and_spaces_behind_commas(root):
    fill(root, "1.jpg", "2.jpg")
    table = write(root, f"path, label\n{root}/1.jpg, a\n2.jpg, b\n")
    assert listed(table, root) == {"1.jpg": "a", "2.jpg": "b"}


def test_paths_are_relative_to_the_table_as_it_is_named(root):
    fill(root, "x/1.jpg", "x/2.jpg")
    write(root, "path,label\n1.jpg,a\n2.jpg,b\n")
    (root / "x" / "link.csv").symlink_to(root / "table.csv")
    assert listed(root / "x" / "link.csv", root) == {"x/1.jpg": "a", "x/2.jpg": "b"}


def test_a_row_twice_is_an_image_twice(root):
    fill(root, "1.jpg", "2.jpg")
    assert len(list_labelled_images(write(root, "path,label\n1.jpg,a\n1.jpg,a\n2.jpg,b\n"))) == 3


def test_digests_tell_lists_apart(root):
    fill(root, "1.jpg", "2.jpg")
    texts = ["1.jpg,a\n2.jpg,b\n", "1.jpg,b\n2.jpg,a\n", "2.jpg,b\n1.jpg,a\n", "1.jpg,a\n2.jpg,c\n"]
    digests = {list_labelled_images(write(root, f"path,label\n{text}")).digest() for text in texts}
    assert len(digests) == len(texts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column path.*it holds nothing"),
        ("path;label\n1.jpg;a\n", "no column path.*'path;label'"),
        ("path,class\n1.jpg,a\n", "no column label"),
        ("path,label\n", "lists no images"),
        ("path,label\n1.jpg,a\n2.jpg\n", "line 3, lacks a label"),
        ("path,label\n1.jpg,a\n ,b\n", "line 3, lacks a path"),
        ("path,label\n1.jpg,a\n9.jpg,b\n", "line 3, names .*9.jpg, which is no file"),
        ("path,label\n1.jpg,a\n./1.jpg,b\n", "line 3, has .*1.jpg as b, but an earlier line as a:"),
        ("path,label\n1.jpg,a\n2.jpg,a\n", "one class alone, a"),
        ("path,label\n1.jpg,a\n2.jpg,\"b\nc\"\n", "can't be printed"),
    ],
)  # fmt: skip
def test_tables_that_are_wrong(root, text, said):
    fill(root, "1.jpg", "2.jpg")
    with pytest.raises(InputError, match=said):
        list_labelled_images(write(root, text))


def test_a_table_that_is_not_text(root):
    with pytest.raises(InputError, match="is not text in UTF-8"):
        list_labelled_images(write(root, "path,label\ncafé.jpg,a\n", "latin-1"))


def test_folders_that_are_wrong(root):
    with pytest.raises(InputError, match="gone doesn't exist"):
        list_labelled_images(str(root / "gone"))
    with pytest.raises(InputError, match="holds no images"):
        list_labelled_images(str(root))
    fill(
        root, "flat/1.jpg", "mixed/1.jpg", "mixed/a/1.jpg", "mixed/b/1.jpg", "one/a/1.jpg", "two/a/1.jpg", "two/b/1.jpg"
    )
    with pytest.raises(InputError, match="no folders of classes"):
        list_labelled_images(str(root / "flat"))
    with pytest.raises(InputError, match="mixed/1.jpg is of no class"):
        list_labelled_images(str(root / "mixed"))
    with pytest.raises(InputError, match="one class alone, a"):
        list_labelled_images(str(root / "one"))
    with pytest.raises(InputError, match=r"images of b, not among the 2 classes .* \(1 images\)"):
        list_labelled_images(str(root / "two"), ["a", "c"])
    with pytest.raises(InputError, match="is a file, not a folder"):
        list_labelled_images(str(root / "flat" / "1.jpg"))


def test_images_that_a_table_lists_twice_are_told(root, caplog):
    fill(root, "1.jpg", "2.jpg")
    images = list_labelled_images(write(root, "path,label\n1.jpg,a\n2.jpg,b\n1.jpg,a\n"))
    assert len(images) == 3 and "table.csv lists 1 images more than once" in caplog.text
