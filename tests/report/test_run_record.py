"""run.json says how a run was made, and is never in the way."""

import pytest
from reference.small import detector_cfg

from convmae_det.report.run import list_changes
from convmae_det.report.run_record import begin_session, find_revision, read_sessions, write_sessions


@pytest.mark.parametrize("content", [None, "", "[]", '{"sessions": 3}', '{"sessions": [1]}', "\xff"])
def test_what_is_no_record_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content, encoding="latin-1")
    assert read_sessions(tmp_path) == []


def test_sessions_come_back(tmp_path):
    session = begin_session(detector_cfg(), 3, [{"file_name": f"{i}.png"} for i in range(100)])
    write_sessions(tmp_path, [session, session])
    assert read_sessions(tmp_path) == [session, session]
    assert session["first_iteration"] == 3 and session["images"] == 100 and session["device"]
    assert session["versions"]["torch"]


def test_only_what_differs_is_listed():
    changes = {key: (value, default) for key, value, default in list_changes(detector_cfg())}
    assert changes["MODEL.FPN.OUT_CHANNELS"] == ("16", "256")
    assert "MODEL.FPN.NORM" not in changes and "OUTPUT_DIR" not in changes


def test_the_revision_is_that_of_the_clone():
    assert find_revision() == "" or len(find_revision().split(",")[0]) == 40
