"""A folder's images are all found, once, in a fixed order; the list that is kept holds only while nothing changes."""

import contextlib
import logging
import os
import pickle
import pwd
import random
import socket
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convmae_det.data.pretraining.folders import ImageFiles, list_images, register_image_folders
from convmae_det.errors import InputError

scandir = os.scandir


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "convmae_det"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def scans(monkeypatch):
    """The folders that are walked from now on; the bytes tell them from those that others read."""
    walked = []

    def watch(path):
        if isinstance(path, bytes):
            walked.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watch)
    return walked


def fill(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def settle(root, seconds_ago=60):
    """As if nothing had changed for a while."""
    for folder, _, _ in os.walk(root):
        time = os.stat(folder).st_mtime_ns - seconds_ago * 10**9
        os.utime(folder, ns=(time, time))


def listed(root):
    return [os.path.relpath(image["file_name"], root) for image in list_images(str(root))]


def test_suffixes_and_hidden_names(root):
    fill(root, "b.jpg", "a/2.PNG", "a/c/10.JpEg", "a/c/9.webp", "notes.txt", "jpg", ".jpg", ".x.jpg", ".git/y.jpg")
    (root / "folder.png").mkdir()
    assert listed(root) == ["b.jpg", "a/2.PNG", "a/c/10.JpEg", "a/c/9.webp"]


names = st.text("aB1é.", min_size=1, max_size=3).filter(lambda name: name.strip("."))
paths = st.lists(st.lists(names, max_size=3).map(lambda parts: "/".join([*parts, "x.png"])), min_size=1, max_size=8)


@settings(max_examples=30)
@given(paths=paths, seed=st.integers(0, 99))
def test_the_order_is_not_that_of_the_file_system(tmp_path_factory, paths, seed):
    root = tmp_path_factory.mktemp("root")
    fill(root, "image.jpg", *paths)
    visible = {path for path in paths if not any(part.startswith(".") for part in path.split("/"))}
    expected = listed(root)
    assert sorted(expected) == sorted({"image.jpg", *visible})

    @contextlib.contextmanager
    def shuffled(path):
        with scandir(path) as entries:
            yield iter(random.Random(seed).sample(found := list(entries), len(found)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", shuffled)
        assert listed(root) == expected


def test_links_are_followed_and_loops_end(root, tmp_path):
    fill(tmp_path / "elsewhere", "1.jpg", "deep/2.jpg")
    fill(root, "b/3.jpg")
    for link, target in [
        ("a", tmp_path / "elsewhere"),  # a folder
        ("b/4.jpg", tmp_path / "elsewhere" / "1.jpg"),  # a file
        ("b/up", root),  # a loop
        ("b/self", root / "b" / "self"),  # a shorter one
        ("c", tmp_path / "elsewhere" / "deep"),  # a folder that has been entered already
        ("5.jpg", tmp_path / "gone.jpg"),  # to be reported when it is read
        ("d", tmp_path / "gone"),
    ]:
        (root / link).symlink_to(target)
    assert listed(root) == ["5.jpg", "a/1.jpg", "a/deep/2.jpg", "b/3.jpg", "b/4.jpg"]


def test_what_is_no_file_is_no_image(root, tmp_path):
    """To open a pipe waits until someone writes to it, and /dev/zero never ends."""
    fill(root, "1.jpg")
    os.mkfifo(root / "2.jpg")
    os.mkfifo(tmp_path / "pipe")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(os.path.relpath(root / "3.jpg"))  # which must be short
        for link, target in [("4.jpg", "2.jpg"), ("5.jpg", "3.jpg"), ("6.jpg", "/dev/zero"), ("7.jpg", "/dev/null")]:
            (root / link).symlink_to(target)
        (root / "8.jpg").symlink_to(tmp_path / "pipe")
        assert listed(root) == ["1.jpg"]


def test_names_need_not_be_text(root):
    path = os.path.join(os.fsencode(root), b"\xff\n.jpg")
    try:
        os.close(os.open(path, os.O_CREAT))
    except OSError:
        pytest.skip("the file system takes only names that are text")
    assert [os.fsencode(image["file_name"]) for image in list_images(str(root))] == [path]


def test_a_folder_is_walked_once(root, scans):
    fill(root, "1.jpg", "a/2.jpg", "a/b/3.jpg")
    settle(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    first = listed(root)
    assert len(scans) == 3
    assert listed(root) == first and len(scans) == 3
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before  # nothing is written there


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda root: fill(root, "a/b/4.jpg"), ["1.jpg", "a/2.jpg", "a/b/3.jpg", "a/b/4.jpg"]),
        (lambda root: (root / "a/2.jpg").unlink(), ["1.jpg", "a/b/3.jpg"]),
        (lambda root: (root / "1.jpg").rename(root / "0.jpg"), ["0.jpg", "a/2.jpg", "a/b/3.jpg"]),
        (lambda root: fill(root, "c/4.jpg"), ["1.jpg", "a/2.jpg", "a/b/3.jpg", "c/4.jpg"]),
        (lambda root: (root / "a").rename(root.parent / "a"), ["1.jpg"]),
    ],
)
def test_a_changed_folder_is_walked_anew(root, change, expected):
    fill(root, "1.jpg", "a/2.jpg", "a/b/3.jpg")
    settle(root)
    assert listed(root) == ["1.jpg", "a/2.jpg", "a/b/3.jpg"]
    change(root)
    assert listed(root) == expected


def test_a_folder_mounted_later_is_found(root, tmp_path):
    fill(root, "1.jpg")
    (root / "a").symlink_to(tmp_path / "disk")
    settle(root)
    assert listed(root) == ["1.jpg"]
    fill(tmp_path / "disk", "2.jpg")
    assert listed(root) == ["1.jpg", "a/2.jpg"]


def test_a_folder_that_may_still_be_changing_is_not_remembered(root, cache):
    fill(root, "1.jpg", "a/2.jpg")
    settle(root)
    os.utime(root / "a")
    listed(root)
    assert not cache.exists()


class Malicious:
    def __reduce__(self):
        return os._exit, (3,)


def as_npz(path, **arrays):
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\3\4 not a zip file"),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"1.jpg", b"9.jpg")),
        lambda path: path.write_bytes(pickle.dumps(Malicious())),
        lambda path: as_npz(path, files=np.array([Malicious()]), folders=np.zeros(0), times=np.zeros(0)),
        lambda path: as_npz(path, files=np.zeros(3, np.uint8)),
        lambda path: as_npz(path, **dict(np.load(path)) | {"times": np.zeros(0, np.int64)}),
    ],
)
def test_a_damaged_list_is_made_anew(root, cache, scans, spoil):
    fill(root, "1.jpg", "a/2.jpg")
    settle(root)
    expected = listed(root)
    (path,) = cache.iterdir()
    spoil(path)
    assert listed(root) == expected and len(scans) == 4
    assert listed(root) == expected and len(scans) == 4  # mended


def test_a_list_that_cannot_be_kept_is_no_error(root, cache, caplog):
    fill(root, "1.jpg")
    settle(root)
    cache.parent.touch()
    assert listed(root) == ["1.jpg"]
    assert "can't be written" in caplog.text


def test_folders_have_lists_of_their_own(root, cache):
    fill(root, "1.jpg", "a/2.jpg")
    settle(root)
    for _ in range(2):
        assert listed(root) == ["1.jpg", "a/2.jpg"]
        assert listed(root / "a") == ["2.jpg"]
    assert len(list(cache.iterdir())) == 2


def test_no_images(root):
    fill(root, "notes.txt", "a/.hidden.jpg")
    with pytest.raises(InputError, match=f"^{root} holds no images: name a folder with files that end in .*jpg"):
        list_images(str(root))


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    fill(root, "1.jpg", "a/2.jpg")

    def refuse(path):
        if path.endswith(b"/a"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=f"^{root}/a can't be read .Permission denied.: "):
        list_images(str(root))


@pytest.fixture
def unprivileged(monkeypatch):
    """A folder of a user who may not read everything, as root may, nor this test's cache."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as end:
        (Path(folder) / "closed").mkdir(mode=0o700)
        images = Path(folder, "images")
        (images / "a/b").mkdir(parents=True)
        fill(images, "1.jpg", "a/2.jpg", "a/b/3.jpg")
        monkeypatch.setenv("XDG_CACHE_HOME", f"{folder}/closed/cache")
        end.callback(os.chmod, images / "a", 0o700)
        if is_root:
            os.chmod(folder, 0o755)
            for inner in (images, images / "a", images / "a/b"):
                os.chown(inner, 65534, -1)
            os.seteuid(65534)
            end.callback(os.seteuid, 0)
        else:
            os.chmod(f"{folder}/closed", 0)
            end.callback(os.chmod, f"{folder}/closed", 0o700)
        yield images


@pytest.mark.parametrize("mode, named", [(0o000, "a"), (0o100, "a"), (0o400, "a/b")])
def test_a_folder_without_permission_is_named(unprivileged, mode, named):
    os.chmod(unprivileged / "a", mode)
    with pytest.raises(InputError, match=f"^{unprivileged}/{named} can't be read .Permission denied.: "):
        list_images(str(unprivileged))


def test_a_cache_of_another_user_is_no_error(unprivileged, caplog):
    """As in a container that runs as another user than the one whose home it has."""
    settle(unprivileged)
    assert len(listed(unprivileged)) == 3
    assert "can't be written (Permission denied)" in caplog.text


def test_a_user_without_a_home(root, monkeypatch):
    fill(root, "1.jpg")
    for variable in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(InputError, match="set HOME or XDG_CACHE_HOME"):
        list_images(str(root))


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_image_files_are_a_sequence_of_dicts(names):
    files = pickle.loads(pickle.dumps(ImageFiles.from_names(names)))
    assert list(files) == [{"file_name": name, "image_id": i} for i, name in enumerate(names)]
    assert not names or files[-1] == files[len(names) - 1]
    with pytest.raises(IndexError):
        files[len(names)]
    assert files.digest() == ImageFiles.from_names(names).digest() != ImageFiles.from_names([*names, ""]).digest()


def test_registered_as_a_list_of_dicts(root, catalog):
    fill(root, "1.jpg", "a/2.jpg")
    for _ in range(2):
        register_image_folders([["mine", f"{root}/"], ("inner", str(root / "a"))])
    assert DatasetCatalog.get("mine") == [
        {"file_name": f"{root}/1.jpg", "image_id": 0},
        {"file_name": f"{root}/a/2.jpg", "image_id": 1},
    ]
    assert len(DatasetCatalog.get("inner")) == 1
    register_image_folders([["mine", str(root / "a")]])  # moved
    assert len(DatasetCatalog.get("mine")) == 1


def test_the_home_folder_and_links_are_resolved(root, catalog, monkeypatch):
    fill(root, "v2/1.jpg")
    (root / "current").symlink_to("v2")
    monkeypatch.setenv("HOME", str(root))
    register_image_folders([["mine", "~/current"]])
    assert DatasetCatalog.get("mine")[0]["file_name"] == f"{root}/v2/1.jpg"


@pytest.mark.parametrize("entry", ["mine", ["mine"], ["mine", "a", "b"], [2017, "a"], ["mine", None], ["", "a"], {}])
def test_malformed_entries(entry):
    with pytest.raises(InputError, match="^DATASETS.IMAGE_FOLDERS holds .*make it a list of pairs"):
        register_image_folders([entry])


def test_bad_names_and_folders(root, catalog):
    fill(root, "1.jpg")
    with pytest.raises(InputError, match="^/nowhere, the folder of mine in DATASETS.IMAGE_FOLDERS, doesn't exist"):
        register_image_folders([["mine", "/nowhere"]])
    with pytest.raises(InputError, match="is a file, not a folder"):
        register_image_folders([["mine", str(root / "1.jpg")]])
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        archive.writestr("1.jpg", b"")
    with pytest.raises(InputError, match="is an archive, not a folder: unpack it"):
        register_image_folders([["mine", str(root / "images.zip")]])
    with pytest.raises(InputError, match="names mine twice"):
        register_image_folders([["mine", str(root)], ["mine", str(root)]])
    with pytest.raises(InputError, match="coco_2017_train in DATASETS.IMAGE_FOLDERS belongs to another data set"):
        register_image_folders([["coco_2017_train", str(root)]])
    assert MetadataCatalog.get("coco_2017_train").evaluator_type == "coco"


def test_a_path_costs_its_bytes_and_eight_more():
    files = ImageFiles.from_names(f"/data/{number:08}.jpg" for number in range(1000))
    assert sum(tensor.nbytes for tensor in vars(files).values()) == 1000 * (len("/data/00000000.jpg") + 1 + 8)


# What is left out, and why.


def save_image(path, format="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, format=format)


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".dib", ".pnm", ".tga", ".apng", ".j2k"])
def test_every_suffix_of_an_image_counts(root, suffix):
    fill(root, f"a{suffix}", "b.txt")
    assert listed(root) == [f"a{suffix}"]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
def test_without_a_suffix_the_content_decides(root, format):
    save_image(root / "photo", format)
    fill(root, "empty")
    (root / "script").write_text("#!/bin/sh")
    (root / "figure").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")  # run to be read
    assert listed(root) == ["photo"]


def test_what_is_left_out_is_counted_and_named_also_from_the_cache(root, caplog):
    fill(root, "1.jpg", "a/b.mp4", "c.MP4", "d.heic", "e.dng", "f.zip", "g.txt", "h.txt", "notes", ".hidden.mov")
    settle(root)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert listed(root) == ["1.jpg"]
        said = caplog.text
        assert f"2 .mp4, such as {root}/c.MP4 (a video" in said
        assert f"1 .heic, such as {root}/d.heic (a photograph" in said and "1 .dng, such as" in said
        assert "1 .zip" in said and "unpack it" in said
        assert "3 that are no images (.txt, without a suffix), such as" in said and "hidden" not in said


def test_nothing_is_said_where_nothing_is_left_out(root, caplog):
    fill(root, "1.jpg")
    with caplog.at_level(logging.INFO):
        assert listed(root) == ["1.jpg"]
    assert "left out" not in caplog.text


def test_labels_beside_the_images_are_no_warning(root, caplog):
    fill(root, "1.jpg", "1.txt")
    with caplog.at_level(logging.WARNING):
        listed(root)
    assert "left out" not in caplog.text


def test_a_folder_of_something_else_says_of_what(root):
    fill(root, "a.heic", "b.mov")
    with pytest.raises(InputError, match=r"holds no images.* It has 1 \.heic, .*1 \.mov"):
        list_images(str(root))


def test_arrays_are_images_where_they_are_wanted(root):
    fill(root, "a.npy", "b.jpg")
    assert listed(root) == ["b.jpg"]
    assert [image["file_name"] for image in list_images(str(root), arrays=True)] == [f"{root}/a.npy", f"{root}/b.jpg"]
    assert listed(root) == ["b.jpg"]
