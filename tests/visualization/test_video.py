import os

import av
import cv2
import numpy as np
import pytest

from convmae_det.errors import InputError
from convmae_det.visualization import video
from convmae_det.visualization.video import Video, write_video

CHROMIUM = "/usr/bin/chromium"


def frames(count: int) -> list[np.ndarray]:
    """Reds that brighten."""
    return [np.full((48, 64, 3), [40 * index + 20, 0, 0], dtype=np.uint8) for index in range(count)]


def test_frames_come_back_in_order_and_colour(tmp_path):
    with write_video(tmp_path / "a.mp4", 12) as write:
        for frame in frames(5):
            write(frame)
    source = Video(str(tmp_path / "a.mp4"))
    assert (source.frame_rate, source.length) == (12, 5)
    read = list(source)
    assert len(read) == 5
    for frame, original in zip(read, frames(5), strict=True):
        assert frame.shape == original.shape and np.abs(frame.astype(int) - original).max() < 25


def test_videos_are_as_browsers_want_them(tmp_path):
    """H.264 in 4:2:0, sides even, and the index before the frames."""
    with write_video(tmp_path / "a.mp4", 29.97) as write:
        for level in range(3):
            write(np.full((47, 63, 3), 80 * level, dtype=np.uint8))
    with av.open(str(tmp_path / "a.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, float(stream.average_rate)) == (64, 48, pytest.approx(29.97, abs=0.01))
        levels = [frame.to_ndarray(format="rgb24")[:47, :63].mean() for frame in video.decode(stream)]
    np.testing.assert_allclose(levels, (0, 80, 160), atol=3)
    content = (tmp_path / "a.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.mark.skipif(not os.path.exists(CHROMIUM), reason="needs Chromium")
def test_a_browser_plays_it(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    with write_video(tmp_path / "a.mp4", 5) as write:
        for frame in frames(5):
            write(frame)
    (tmp_path / "page.html").write_text('<video src="a.mp4" preload="auto"></video>')
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        ready = "document.querySelector('video').readyState >= 2 || document.querySelector('video').error"
        page.wait_for_function(ready)
        assert page.evaluate("document.querySelector('video').error") is None
        assert page.evaluate("document.querySelector('video').duration") == pytest.approx(1)
        browser.close()


def test_without_h264_videos_are_mpeg4_and_it_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(video, "ENCODERS", ("no_such_encoder",))
    video.find_encoder.cache_clear()
    with write_video(tmp_path / "a.mp4", 12) as write:
        for frame in frames(3):
            write(frame)
    video.find_encoder.cache_clear()
    assert "has no encoder of H.264" in caplog.text
    assert len(list(Video(str(tmp_path / "a.mp4")))) == 3


def test_an_interrupted_video_can_be_watched(tmp_path):
    with pytest.raises(KeyboardInterrupt), write_video(tmp_path / "a.mp4", 12) as write:
        for frame in frames(3):
            write(frame)
        assert not (tmp_path / "a.mp4").exists()
        raise KeyboardInterrupt
    assert len(list(Video(str(tmp_path / "a.mp4")))) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_without_frames_is_not_written(tmp_path):
    with write_video(tmp_path / "a.mp4", 12):
        pass
    assert not list(tmp_path.iterdir())


def test_what_can_not_be_opened_is_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for source, name in ((str(tmp_path / "a.mp4"), "a.mp4"), (str(tmp_path / "b.mp4"), "b.mp4"), (99, "webcam 99")):
        with pytest.raises(InputError, match=f"{name} can't be opened"):
            Video(source)
    with pytest.raises(InputError, match="can't be written"), write_video(tmp_path / "none/a.mp4", 12) as write:
        write(frames(1)[0])


def test_a_video_that_is_cut_short_knows_it(tmp_path):
    """The index of an AVI of JPEGs stands at its end, so that what is left of the file can still be read."""
    path = str(tmp_path / "a.avi")
    writer = cv2.VideoWriter(path, cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter_fourcc(*"MJPG"), 12, (64, 48))
    for frame in np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8):
        writer.write(frame)
    writer.release()
    whole, short = Video(path), tmp_path / "short.avi"
    assert len(list(whole)) == 20 and whole.missing == 0
    short.write_bytes((tmp_path / "a.avi").read_bytes()[: (tmp_path / "a.avi").stat().st_size // 2])
    source = Video(str(short))
    count = len(list(source))
    assert 5 < count < 15 and source.length == 20 and source.missing == 20 - count
