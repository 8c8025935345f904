"""Counts what becomes of injected faults: each must be survived or refused in a sentence, in bounded time."""

import contextlib
import resource
import signal
import warnings
from collections import Counter
from collections.abc import Callable

import hypothesis
import pytest

from convmae_det.errors import InputError, TrainingError


def counts(short: int, full: int):
    """Of examples: `short` in the ordinary tests, `full` in the slow ones."""
    return pytest.mark.parametrize("count", [short, pytest.param(full, marks=pytest.mark.slow)])


@contextlib.contextmanager
def limit(kind: int, amount: int):
    """Whoever asks for more of a resource, resource.RLIMIT_…, gets the system's error meanwhile."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (amount, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def examples(count: int) -> hypothesis.settings:
    """The same ones each time; a fault that is found is not made simpler, for that may take longer than the search."""
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    return hypothesis.settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=phases,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


class Hang(BaseException):
    """No Exception, lest the code that hangs catches it."""


class Tally:
    """``tally(call, argument, …)`` returns what `call` returns, or None where it refuses with an InputError."""

    def __init__(self, seconds: int = 20):
        self.seconds, self.outcomes = seconds, Counter()

    def __call__(self, call: Callable, *arguments):
        def stop(number, frame):
            raise Hang(f"{call} took more than {self.seconds} s")

        replaced = signal.signal(signal.SIGALRM, stop)
        signal.alarm(self.seconds)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = call(*arguments)
            self.outcomes["survived"] += 1
            return result
        except (InputError, TrainingError) as error:
            assert str(error).strip() and "Traceback" not in str(error)
            self.outcomes["refused"] += 1
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, replaced)

    def report(self, faults: str) -> None:
        total = self.outcomes.total()
        figures = ", ".join(f"{kind} {number}" for kind, number in sorted(self.outcomes.items()))
        print(f"\n{faults}: {total} injected, {figures}")
