"""What is said of data that people have, where they are at hand."""

import json
from pathlib import Path

import pytest

from convmae_det.data.detection.foreign_formats.conversion import convert
from convmae_det.data.detection.foreign_formats.source import Source
from convmae_det.data.inspection.account import format_account, give_account
from convmae_det.data.inspection.findings import Severity
from convmae_det.data.inspection.inspection import inspect_data
from convmae_det.data.inspection.request import read_request

SHARED = Path(__file__).parents[4] / "shared"
CASES = sorted(path.name for path in SHARED.glob("cases/*.json") if "results" not in path.name)

# What inputs that users bring have, beside classes of few objects.
EXPECTED = {
    "brush_masks_as_crowd.json": "crowd-regions",
    "crossing_outline.json": "crossing-outlines",
    "two_categories_of_one_name.json": "names-alike",
}


def check(file, folder, *pairs):
    return give_account(inspect_data(read_request("", [str(file), str(folder)], [], pairs), False, threads=1))


def names(account, least=Severity.NOTE):
    return {finding.check for finding in account.findings if finding.severity >= least}


@pytest.mark.parametrize("case", CASES)
def test_inputs_that_users_bring(case, catalog):
    folder = SHARED / "cases" if case.startswith("windows") else SHARED / "cases" / "images"
    account = check(SHARED / "cases" / case, folder)
    expected = {EXPECTED[case]} if case in EXPECTED else set()
    assert names(account, Severity.WARNING) - {"rare-classes", "empty-classes"} == expected
    assert "itself failed" not in format_account(account)


def test_coco(real_coco, catalog):
    account = check(real_coco / "annotations" / "instances_val2017.json", real_coco / "val2017")
    assert names(account, Severity.WARNING) <= {"rare-classes", "empty-classes"}


def test_blood_cells(tmp_path, catalog):
    """Two pictures of the same cells, and two slips of the mouse."""
    root = SHARED / "data" / "bccd"
    if not root.is_dir():
        pytest.skip(f"there is no {root}")
    numbers = (37, 38, 100, 338, 343)
    (tmp_path / "list.txt").write_text("\n".join(f"BloodImage_{number:05d}" for number in numbers))
    conversion = convert(Source(root / "Annotations", root / "JPEGImages"), "voc", chosen=tmp_path / "list.txt")
    content = conversion.contents[""]
    (tmp_path / "cells.json").write_text(json.dumps(content))
    account = check(tmp_path / "cells.json", root / "JPEGImages")
    found = {finding.check: finding for finding in account.findings}
    assert [path[-9:] for path in found["similar-images"].examples[0].files] == ["00037.jpg", "00038.jpg"]
    assert [example.files[0][-9:] for example in found["tiny-objects"].examples] == ["00338.jpg", "00343.jpg"]
