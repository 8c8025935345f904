import numpy as np

from convmae_det.visualization.colours import NUMBER, _convert_to_oklab, class_colour, text_colour


def test_classes_are_told_apart():
    """0.02 of Oklab is what is just noticed side by side."""
    lab = _convert_to_oklab(np.array([class_colour(index) for index in range(NUMBER)], dtype=float))
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1) + 9 * np.eye(NUMBER)
    assert distances[:20, :20].min() > 0.1 and distances[:80, :80].min() > 0.05 and distances.min() > 0.03


def test_any_number_of_classes_has_colours():
    assert class_colour(NUMBER + 3) == class_colour(3)
    assert all(type(value) is int and 0 <= value <= 255 for value in class_colour(10**6))


def test_oklab_of_white_and_red():
    """As its author gives them."""
    np.testing.assert_allclose(_convert_to_oklab(np.array((255.0, 255, 255))), (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(_convert_to_oklab(np.array((255.0, 0, 0))), (0.62796, 0.22486, 0.12585), atol=1e-4)


def test_text_is_read_on_its_ground():
    assert (text_colour((255, 242, 0)), text_colour((30, 30, 120))) == ("black", "white")
