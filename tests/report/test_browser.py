"""In a real browser the page makes no noise and no request, and its tables, filters and keys work."""

import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
OPTIONS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
OPTIONS += " --disable-component-update --disable-sync"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, detector_page):
    """``open_page(width)``; afterwards it has said nothing, and asked for nothing but itself."""
    noise, contexts = [], []

    def open_page(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda request: noise.append(request.url) if request.url.startswith("http") else None)
        page.goto(detector_page.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert noise == []


def read_column(page, title, number):
    table = page.locator("section", has=page.get_by_role("heading", name=title, exact=True)).locator("table").first
    return table, table.locator("tbody tr").evaluate_all(f"rows => rows.map(row => row.cells[{number}].dataset.value)")


def test_tables_sort_by_mouse_and_keyboard(open_page):
    page = open_page()
    table, before = read_column(page, "Classes", 1)
    button = table.get_by_role("button", name="objects")
    button.click()
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "ascending"
    assert read_column(page, "Classes", 1)[1] == sorted(before, key=float)
    button.focus()
    page.keyboard.press("Enter")
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"
    assert read_column(page, "Classes", 1)[1] == sorted(before, key=float, reverse=True)


def test_filters_hide_and_show(open_page):
    page = open_page()
    pictures = page.locator(".gallery figure")
    assert pictures.count() == 3 and page.locator(".filters output").inner_text() == "3 of 3 pictures"
    page.get_by_label("Error", exact=True).select_option("background")
    assert [pictures.nth(i).is_visible() for i in range(3)].count(True) == 1
    page.get_by_label("Error", exact=True).select_option("")
    page.get_by_label("Class", exact=True).select_option("1")
    assert page.locator(".filters output").inner_text() == "2 of 3 pictures"
    page.get_by_label("Class", exact=True).select_option("")
    mask = page.locator(".mark .mask").first
    assert mask.is_visible()
    page.get_by_label("masks", exact=True).uncheck()
    assert not mask.is_visible() and page.locator(".mark .box").first.is_visible()


def test_pictures_are_enlarged_and_leafed_through_by_keyboard(open_page):
    page = open_page()
    first = page.locator(".gallery .open").first
    first.focus()
    page.keyboard.press("Enter")
    told = page.locator("#lightbox p")
    one = told.inner_text()
    assert page.locator("#lightbox svg").is_visible() and ".png: " in one
    page.keyboard.press("ArrowRight")
    assert told.inner_text() != one
    page.keyboard.press("ArrowLeft")
    assert told.inner_text() == one
    page.keyboard.press("Escape")
    assert not page.locator("#lightbox").is_visible()
    assert first.evaluate("button => button === document.activeElement")


def test_a_curve_is_chosen(open_page):
    page = open_page()
    page.get_by_label("Show", exact=True).first.select_option("cell")
    figure = page.locator("figure.chart", has=page.get_by_label("Show", exact=True)).first
    assert figure.locator("path.line", has_text="cell").first.get_attribute("class") == "line strong"
    assert "pale" in figure.locator("path.line", has_text="all classes").get_attribute("class")


def test_it_fits_a_telephone_and_the_dark(open_page):
    light, dark = open_page(400), open_page(400, "dark")
    for page in (light, dark):
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    grounds = [page.evaluate("getComputedStyle(document.body).backgroundColor") for page in (light, dark)]
    assert grounds == ["rgb(255, 255, 255)", "rgb(21, 23, 27)"]


def test_the_focus_is_seen_and_hostile_names_are_text(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.get_by_text("<script>alert(1)</script>").first.count() == 1
