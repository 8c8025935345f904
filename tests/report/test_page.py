"""A page escapes whatever it is given, loads nothing, and replaces only pages."""

import base64
import hashlib
import re

import pytest
from markupsafe import Markup

from convmae_det.errors import InputError
from convmae_det.report.page import Chapter, Section, render_page, save_page
from convmae_det.report.pictures import Budget
from convmae_det.report.tables import Cell, render_facts, render_table, render_tiles

HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def make_page(text=HOSTILE):
    table = render_table([text, "n"], [[text, 1], [Cell(text, text), None]], text)
    sections = [Section(text, table, text), Section(text, render_facts({text: text}) + render_tiles({text: text}))]
    return render_page(text, [Chapter(text, sections, text), Chapter(text, sections[1:])])


def test_all_text_is_escaped():
    page = make_page()
    assert "<img" not in page and page.count("&lt;img") >= 14


def test_markup_stays():
    assert "<b>bold</b>" in render_page("t", [Chapter("c", [Section("s", Markup("<b>bold</b>"))])])


def test_the_page_allows_its_own_script_and_nothing_else():
    page = make_page()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")
    assert not re.search(r"https?://|//\w+\.\w", page)


def test_elements_have_names_of_their_own():
    names = re.findall(r'\bid="([^"]*)"', make_page())
    assert len(names) == len(set(names))


def test_only_pages_are_replaced(tmp_path):
    path = tmp_path / "page.html"
    save_page(make_page("one"), path)
    save_page(make_page("two"), path)
    assert "two" in path.read_text()
    path.write_text("<html>mine</html>")
    with pytest.raises(InputError, match="page.html is no page of convmae-det and would be overwritten"):
        save_page(make_page("three"), path)
    assert path.read_text() == "<html>mine</html>"


@pytest.mark.parametrize("option", ["--output", "--html"])
def test_a_refusal_names_the_option(tmp_path, option):
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(InputError, match=f"mine.html is no page .* another name by {option}"):
        save_page("", tmp_path / "mine.html", option)
    with pytest.raises(InputError, match=f"is a folder: name a file in it by {option}, such as .*page.html"):
        save_page("", tmp_path, option)


def test_a_budget_counts_bytes():
    assert Budget(6).take("äöü") and not Budget(5).take("äöü")


def test_cells():
    table = render_table(["a", "b"], [[1234, 0.25], [None, float("nan")]], digits=2)
    assert 'data-value="1234">1,234<' in table and ">0.25<" in table and table.count('data-value="">–<') == 2


def test_long_tables_are_searched():
    assert 'type="search"' not in render_table(["a"], [[1]] * 14)
    assert 'type="search"' in render_table(["a"], [[1]] * 15)
