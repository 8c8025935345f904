"""The keys can be had without Detectron2, on whatever configuration there is."""

import pkgutil
import subprocess
import sys
from operator import attrgetter

import yaml
from detectron2.config import get_cfg
from yacs.config import CfgNode

import convmae_det.config
from convmae_det.config import add_convmae_config
from convmae_det.config.architectures import CLASS_KEYS, is_autoencoder, is_classifier, is_detector, is_segmentor
from convmae_det.config.reading import flatten_keys


def test_no_module_needs_detectron2():
    modules = [module.name for module in pkgutil.walk_packages(convmae_det.config.__path__, "convmae_det.config.")]
    assert "convmae_det.config.checks.training" in modules
    code = f"import sys; sys.modules['detectron2'] = None\nimport {', '.join(modules)}\nprint(sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert "'convmae_det.config.checks.training'" in result.stdout, result.stderr
    assert "'detectron2." not in result.stdout and "'fvcore" not in result.stdout


def test_they_are_the_same_on_a_plain_configuration():
    """And nodes are of the kind that they are put into."""
    ours, plain = get_cfg(), CfgNode(yaml.safe_load(get_cfg().dump()))
    add_convmae_config(ours)
    add_convmae_config(plain)
    assert yaml.safe_load(plain.dump()) == yaml.safe_load(ours.dump())
    for cfg in (ours, plain):
        assert type(cfg.MODEL.CONVMAE) is type(cfg.SOLVER.EMA) is type(cfg.MODEL) is type(cfg)


def test_the_numbers_of_classes_are_keys():
    cfg = get_cfg()
    add_convmae_config(cfg)
    for architecture, key in CLASS_KEYS.items():
        cfg.MODEL.META_ARCHITECTURE = architecture
        assert is_detector(cfg) + is_classifier(cfg) + is_segmentor(cfg) == 1 and key in dict(flatten_keys(cfg))
        assert attrgetter(key)(cfg) == (80 if is_detector(cfg) else 1000 if is_classifier(cfg) else 54)
    cfg.MODEL.META_ARCHITECTURE = "MaskedAutoencoder"
    assert is_autoencoder(cfg) and not is_detector(cfg) and not is_classifier(cfg)
