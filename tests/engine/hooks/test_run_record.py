"""A run that is resumed with other images than before is warned."""

from types import SimpleNamespace

import pytest
from reference.small import detector_cfg

from convmae_det.engine.hooks.run_record import RunRecordHook


@pytest.fixture
def train(tmp_path):
    """``train(names)``: a session of a run, in which nothing is done, with images of these names."""
    cfg = detector_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)

    def train(names):
        hook = RunRecordHook(cfg, [{"file_name": name} for name in names])
        hook.trainer = SimpleNamespace(start_iter=0, iter=1)
        hook.before_train()
        hook.after_train()

    return train


def test_other_images_are_told(train, caplog):
    train(["/here/a.png", "/here/b.png"])
    train(["/there/a.png", "/there/b.png"])  # the same on another machine
    assert "other images" not in caplog.text
    train(["/there/a.png", "/there/b.png", "/there/c.png"])
    assert "other images than the run had until now (2 then, 3 now)" in caplog.text
    caplog.clear()
    train(["/there/a.png", "/there/b.png", "/there/d.png"])
    assert "(3 then, 3 now)" in caplog.text
