"""Predictions for real images, as files on the disk, have the AP that evaluation of the same detector gives."""

import json

import pytest
from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convmae_det.cli import predict
from convmae_det.engine.detection import DetectionTrainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(overfitting_cfg):
    """The folder of a run, long enough to find something, and its evaluation."""
    solver = overfitting_cfg.SOLVER
    solver.MAX_ITER, solver.WARMUP_ITERS, solver.IMS_PER_BATCH, solver.REFERENCE_BATCH_SIZE = 150, 20, 4, 0
    overfitting_cfg.DATASETS.TEST = ()
    trainer = DetectionTrainer(overfitting_cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg = trainer.cfg.clone()
    cfg.DATASETS.TEST = ("coco_eight",)
    cfg.MODEL.WEIGHTS = f"{cfg.OUTPUT_DIR}/model_final.pth"
    metadata = MetadataCatalog.get("coco_eight")
    ids = metadata.thing_dataset_id_to_contiguous_id
    cfg.DATASETS.CATEGORIES = [[id, metadata.thing_classes[index]] for id, index in ids.items()]
    with open(f"{cfg.OUTPUT_DIR}/config.yaml", "w") as file:
        file.write(cfg.dump())
    return cfg.OUTPUT_DIR, DetectionTrainer.evaluate(cfg)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_results_file_has_the_ap_of_evaluation(trained, coco_eight, tmp_path, batch_size):
    run, expected = trained
    annotations, images = map(str, coco_eight)
    words = ["--config-file", f"{run}/config.yaml", "--weights", f"{run}/model_final.pth", "--annotations", annotations]
    words += ["--output", str(tmp_path / "found"), "--batch-size", str(batch_size), images]
    assert predict.main(words) == 0

    truth, results = COCO(annotations), str(tmp_path / "found/results.json")
    found = truth.loadRes(results)
    with open(results) as file:
        entries = json.load(file)
    assert all(truth.imgs[entry["image_id"]]["file_name"] == entry["file_name"] for entry in entries)
    for task in ("bbox", "segm"):
        evaluation = COCOeval(truth, found, task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert 100 * evaluation.stats[0] == pytest.approx(expected[task]["AP"], abs=1e-6)
        assert expected[task]["AP"] > 0.5
