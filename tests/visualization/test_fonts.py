import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from convmae_det.visualization import fonts
from convmae_det.visualization.fonts import FONT, choose_font, write


@pytest.fixture
def installed(monkeypatch):
    """Sets the fonts of the machine."""

    def install(*paths):
        monkeypatch.setattr(fonts, "_list_fonts", lambda: list(map(str, paths)))

    choose_font.cache_clear()
    yield install
    choose_font.cache_clear()


def make_font(path, letters):
    """Writes a font in which each letter is a square."""
    pen = TTGlyphPen(None)
    for number, point in enumerate(((100, 0), (100, 900), (900, 900), (900, 0))):
        (pen.lineTo if number else pen.moveTo)(point)
    pen.closePath()
    names = [".notdef", *(f"letter{ord(letter):x}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, letters), names[1:], strict=True)))
    builder.setupGlyf({name: pen.glyph() for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupPost()
    builder.save(path)
    return path


def test_most_letters_are_there():
    for text in ("cat", "кот", "čmeláček", "γάτα", "5 × 3 µm"):
        assert choose_font(text) == (text, FONT)


def test_a_font_that_has_the_letters_is_found(installed, tmp_path):
    installed(tmp_path / "none.ttf", make_font(tmp_path / "squares.ttf", "箱盒/"), FONT)
    assert choose_font("箱/盒") == ("箱/盒", str(tmp_path / "squares.ttf"))
    assert write("箱/盒", 10).width == 30


def test_letters_that_no_font_has_are_written_in_latin_ones(installed, tmp_path, caplog):
    installed()
    assert choose_font("箱/盒") == ("Xiang/He", FONT)
    choose_font("箱/盒")
    (record,) = caplog.records  # once
    assert "“箱/盒”, which pictures write as “Xiang/He”" in record.getMessage()
    assert choose_font("\ue000")[0] == "U+E000"
    installed(make_font(tmp_path / "squares.ttf", "円盤"))
    assert choose_font("円盤🥏")[0] == "円盤:flying_disc:"  # as far as the best font goes


def test_what_is_too_long_ends_in_dots():
    whole = write("a long name", 12)
    cut = write("a long name", 12, room=whole.width / 2)
    assert whole.text == "a long name" and cut.text.startswith("a lo") and cut.text.endswith("…")
    assert cut.width <= whole.width / 2
