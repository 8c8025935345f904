"""Files that can't be read are named once, whoever finds them."""

from convmae_det.data.pretraining.skipped_images import SkippedImageLog


def skipping(*names, reason="is empty"):
    return [(name, reason) for name in names]


def logged_names(path):
    return [line.partition("\t")[0] for line in path.read_text().splitlines()]


def test_skipped_images_are_named_once(tmp_path):
    path = tmp_path / "output" / "skipped_images.log"
    log = SkippedImageLog(path)
    log.update([])
    assert log.count == 0 and not path.exists()
    log.update(skipping("b.jpg", "a.jpg", "b.jpg", "a.jpg"))
    log.update(skipping("b.jpg", reason="is empty now"))
    assert path.read_text() == "a.jpg\tis empty\nb.jpg\tis empty\n" and log.count == 2
    resumed = SkippedImageLog(str(path))
    resumed.update(skipping("a.jpg", "c.jpg"))
    assert logged_names(path) == ["a.jpg", "b.jpg", "c.jpg"] and log.count == resumed.count == 3


def test_a_log_of_names_alone_is_continued(tmp_path):
    path = tmp_path / "skipped_images.log"
    path.write_text("a.jpg\nb c.jpg\n")
    log = SkippedImageLog(path)
    log.update(skipping("b c.jpg", "a.jpg", "d.jpg"))
    assert path.read_text() == "a.jpg\nb c.jpg\nd.jpg\tis empty\n" and log.count == 3


def test_processes_share_the_file(tmp_path):
    logs = [SkippedImageLog(tmp_path / "skipped_images.log") for _ in range(2)]
    for log in logs:
        log.update(skipping("a.jpg"))
    assert (tmp_path / "skipped_images.log").read_text() == "a.jpg\tis empty\n"


def test_every_name_fits_a_line(tmp_path):
    for _ in range(2):
        log = SkippedImageLog(tmp_path / "skipped_images.log")
        log.update(skipping("a\nb.jpg", "\udcff.jpg", "c\td.jpg", reason="is\nno image"))
    lines = [rb"a\nb.jpg", rb"c\td.jpg", b"\xff.jpg"]
    written = (tmp_path / "skipped_images.log").read_bytes()
    assert written == b"".join(line + b"\t" + rb"is\nno image" + b"\n" for line in lines)
