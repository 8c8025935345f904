"""What a run says, and where."""

import logging
import sys

import pytest

from convmae_det.logs import LIBRARIES, OWN, open_logs


@pytest.fixture(autouse=True)
def loggers():
    """The loggers, as they were before, after each test."""
    found = [logging.getLogger(name) for name in (OWN, *LIBRARIES)]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in found]
    for logger in found:
        logger.handlers = []
    yield
    for logger, (handlers, level, propagate) in zip(found, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def speak():
    own, library = logging.getLogger("convmae_det.engine"), logging.getLogger("detectron2.data.common")
    own.info("a line")
    own.debug("a long table")
    own.warning("mind this")
    library.info("Serializing 4 elements to byte tensors")
    library.warning("not in vain")


def messages(text):
    return [line.partition("] ")[2] for line in text.splitlines()]


def test_the_terminal_has_news_and_the_file_more(tmp_path, capsys):
    open_logs(str(tmp_path / "out"))
    speak()
    said = ["a line", "WARNING: mind this", "WARNING: not in vain"]
    output = capsys.readouterr()
    assert messages(output.out) == said and not output.err
    assert messages((tmp_path / "out/log.txt").read_text()) == ["a line", "a long table", *said[1:]]


def test_other_processes_write_files_alone(tmp_path, capsys):
    open_logs(str(tmp_path), rank=2)
    speak()
    assert capsys.readouterr().out == ""
    assert "a line" in (tmp_path / "log.txt.rank2").read_text() and not (tmp_path / "log.txt").exists()


def test_the_next_run_of_a_process_has_its_own_file(tmp_path, capsys):
    open_logs(str(tmp_path / "one"))
    open_logs(str(tmp_path / "two"))
    speak()
    assert messages(capsys.readouterr().out).count("a line") == 1
    assert (tmp_path / "one/log.txt").read_text() == ""
    assert messages((tmp_path / "two/log.txt").read_text()).count("a line") == 1


def test_warnings_stand_out_on_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # else termcolor looks at the file descriptor
    open_logs(str(tmp_path))
    speak()
    lines = capsys.readouterr().out.splitlines()
    assert ["\033[" in line for line in lines] == [False, True, True]
    assert "\033" not in (tmp_path / "log.txt").read_text()
