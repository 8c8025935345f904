"""The kinds of a detector's errors: their letters, colours, meanings, and what helps."""

from dataclasses import dataclass

# What TIDE (arXiv 2008.08115) calls foreground and background, and COCO's smallest overlap of AP50.
MATCHED, TOUCHING = "50 %", "10 %"


@dataclass(frozen=True)
class Kind:
    """A kind of error; its colour is the page's `var(--NAME)`."""

    name: str
    letter: str
    title: str
    meaning: str
    advice: str

    @property
    def colour(self) -> str:
        return f"var(--{self.name})"


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "missed",
            "M",
            "missed",
            "an annotated object that was not found",
            "train longer or with more images like these, and if most of them are small, with larger images; objects "
            "found with low scores appear at a lower score threshold",
        ),
        Kind(
            "class",
            "C",
            "wrong class",
            f"an object found in its place (overlap from {MATCHED}) under the name of another class",
            "look which classes are confused: check their annotations, merge classes that can't be told apart, add "
            "images of the rarer one",
        ),
        Kind(
            "localisation",
            "L",
            "inaccurate",
            f"the right class, but the outline overlaps its object by only {TOUCHING} to {MATCHED}",
            "check that annotations are tight and complete, use larger images, or train longer",
        ),
        Kind(
            "both",
            "CL",
            "wrong class and inaccurate",
            f"another class than the object's, and an overlap of only {TOUCHING} to {MATCHED}",
            "train longer or with more images; so vague a detection is seldom useful",
        ),
        Kind(
            "duplicate",
            "D",
            "found twice",
            "a second detection of an object that another has found already",
            "lower MODEL.ROI_HEADS.NMS_THRESH_TEST, and check that no object is annotated twice",
        ),
        Kind(
            "background",
            "B",
            "nothing there",
            f"a detection where nothing is annotated (overlap below {TOUCHING})",
            "look whether the objects are there but not annotated; if they aren't, add images without objects "
            "(DATALOADER.FILTER_EMPTY_ANNOTATIONS False), or use a higher score threshold",
        ),
    )
}
