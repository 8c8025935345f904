"""What all tests share: the plain forms are importable, and torch is repeatable and doesn't wait for its threads."""

import gc
import sys
from pathlib import Path

import hypothesis
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

sys.path.insert(0, str(Path(__file__).parent))  # reference.convmae

torch.set_num_threads(1)  # the networks are so small that threads cost more than they bring


class TorchRandom:
    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.random.get_rng_state)
    setstate = staticmethod(torch.random.set_rng_state)


hypothesis.register_random(TorchRandom)  # so that an example that fails once fails again

# No test depends on a clock; fixtures of a test serve all its examples.
clocks = (hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture)
hypothesis.settings.register_profile("convmae_det", deadline=None, suppress_health_check=clocks)
hypothesis.settings.load_profile("convmae_det")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    gc.disable()  # nothing of the million objects that it makes is garbage
    try:
        return (yield)
    finally:
        gc.freeze()  # lest each full collection go through them all
        gc.enable()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def python():
    """To be started in place of sys.executable: it has imported the large libraries already."""
    from reference.warm_python import WarmPython

    with WarmPython() as warm:
        yield warm.executable


@pytest.fixture
def catalog():
    """Data sets that a test registers are forgotten after it."""
    before = set(DatasetCatalog)
    yield
    for name in set(DatasetCatalog) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
