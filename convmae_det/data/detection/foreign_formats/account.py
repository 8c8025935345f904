"""What a conversion leaves out, and what else its user has to know."""

from collections import Counter

UNLABELLED = "images without a label file are taken as images without objects"  # a note of several formats


class Account:
    """Counts of what was left out, each with the first example.

    Attributes:
        left_out: how often, by what it is and why
        notes: how often, by what was done
    """

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def leave_out(self, what: str, example: str, count: int = 1) -> None:
        """Counts something that doesn't become part of the result.

        Args:
            what: in the plural, with the reason: "points, which enclose nothing"
            example: where one is: a file, an image
            count: how many
        """
        self._count(self.left_out, what, example, count)

    def note(self, what: str, example: str, count: int = 1) -> None:
        """Counts something that becomes another thing than it was; the arguments are those of :meth:`leave_out`."""
        self._count(self.notes, what, example, count)

    def _count(self, counter: Counter[str], what: str, example: str, count: int) -> None:
        if count:
            counter[what] += count
            self._examples.setdefault(what, example)

    def describe(self) -> list[str]:
        """Describes everything, a line each."""
        kinds = [("Left out", self.left_out), ("Note", self.notes)]
        return [
            f"{kind}: {what} ({count}, the first: {self._examples[what]})."
            for kind, counter in kinds
            for what, count in counter.items()
        ]
