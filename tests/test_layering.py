"""Imports point one way: scripts → engine → the two models → encoder, decoder, reconstruction → building blocks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "convmae_det"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
SCRIPTS = {path.stem for path in [*ROOT.glob("*.py"), *(ROOT / "tools").glob("*.py")]}

MODELS = {"masked_autoencoder", "backbone"}
PARTS = {"encoder", "decoder", "reconstruction", "window_schedule"}
BLOCKS = {"mlp", "patch_embed", "conv_block", "attention", "relative_position", "position_embedding", "masking"}
BLOCKS |= {"feature_maps"}

# what `checkpoint` takes from `modeling`: functions that resize tables, and the table of presets, to name what it reads
OF_MODELING = {"position_embedding.resize", "relative_position.resize_table", "encoder.PRESETS"}


def imports(module: str) -> Iterator[str]:
    """Dotted names of what a module of the package imports, anywhere in its code."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def inside(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def modules_of(part: str) -> list[str]:
    found = [module for module in MODULES if inside(module, f"convmae_det.{part}")]
    assert found, part
    return found


def from_modeling(module: str) -> set[str]:
    """The modules of `modeling` that a module imports from."""
    prefix = "convmae_det.modeling."
    return {name.removeprefix(prefix).split(".")[0] for name in imports(module) if name.startswith(prefix)}


def test_imports_are_resolved():
    assert "convmae_det.modeling.attention.TransformerBlock" in set(imports("convmae_det.modeling.encoder"))
    assert "convmae_det.errors.InputError" in set(imports("convmae_det.modeling.encoder"))
    assert "convmae_det.modeling.backbone" in set(imports("convmae_det"))
    assert "torch.nn.functional" in set(imports("convmae_det.modeling.attention"))


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_a_script(module):
    assert not {name for name in imports(module) if inside(name, "tools", "tests", *SCRIPTS)}


@pytest.mark.parametrize("part", ["data", "solver"])
def test_data_and_solver_know_no_model(part):
    above = [f"convmae_det.{name}" for name in ("modeling", "engine", "checkpoint", "visualization")]
    for module in modules_of(part):
        assert not {name for name in imports(module) if inside(name, *above)}, module


def test_checkpoint_knows_only_how_tables_are_resized():
    for module in modules_of("checkpoint"):
        names = set(imports(module))
        above = ("convmae_det.engine", "convmae_det.visualization", "convmae_det.data")
        assert not {name for name in names if inside(name, *above)}, module
        taken = {name for name in names if inside(name, "convmae_det.modeling")}
        assert taken <= {f"convmae_det.modeling.{name}" for name in OF_MODELING}, module


def test_only_scripts_and_the_predictor_import_the_engine():
    for module in MODULES:
        if not inside(module, "convmae_det.engine", "convmae_det.prediction"):
            assert not {name for name in imports(module) if inside(name, "convmae_det.engine")}, module


@pytest.mark.parametrize("part, below", [("modeling", ("modeling", "ops", "errors")), ("ops", ("ops", "errors"))])
def test_modeling_imports_nothing_of_the_package_but_operations_and_errors(part, below):
    for module in modules_of(part):
        for name in imports(module):
            if inside(name, "convmae_det"):
                assert inside(name, *(f"convmae_det.{package}" for package in below)), (module, name)


def test_what_runs_where_is_decided_in_one_module():
    """No other part of a network asks for processor, compiler or environment."""
    questions = {"get_cpu_capability", "is_compiling", "environ", "cpuinfo"}
    for module in [*modules_of("modeling"), *modules_of("ops")]:
        words = set(re.findall(r"\w+", MODULES[module].read_text(encoding="utf-8")))
        if module != "convmae_det.ops.choice":
            assert not words & questions, module


def test_precision_is_decided_without_a_model():
    for name in imports("convmae_det.precision"):
        assert not inside(name, "detectron2")
        assert not inside(name, "convmae_det") or inside(name, "convmae_det.errors"), name


def test_every_module_of_modeling_has_its_layer():
    names = {module.rpartition(".")[2] for module in modules_of("modeling")} - {"modeling"}
    assert names == MODELS | PARTS | BLOCKS


@pytest.mark.parametrize("name", sorted(BLOCKS | PARTS))
def test_modeling_imports_downwards(name):
    assert from_modeling(f"convmae_det.modeling.{name}") <= (BLOCKS if name in BLOCKS else BLOCKS | PARTS)


def test_the_models_meet_only_in_the_encoder():
    pretraining, detection = (from_modeling(f"convmae_det.modeling.{name}") for name in sorted(MODELS, reverse=True))
    assert pretraining & detection == {"encoder"}
    assert not (pretraining | detection) & MODELS


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_building_blocks_know_neither_detectron2_nor_cfg(name):
    module = f"convmae_det.modeling.{name}"
    assert not {imported for imported in imports(module) if inside(imported, "detectron2", "fvcore", "yacs")}
    assert "cfg" not in MODULES[module].read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("name", ["decoder", "reconstruction"])
def test_parts_do_not_import_detectron2(name):
    assert not {imported for imported in imports(f"convmae_det.modeling.{name}") if inside(imported, "detectron2")}


def test_the_model_zoo_is_never_imported():
    """It needs pkg_resources, which setuptools no longer has."""
    for module in MODULES:
        assert not {name for name in imports(module) if inside(name, "detectron2.model_zoo")}, module


def test_the_feature_extractor_needs_no_detectron2():
    """Nor does what it imports of the package, at any depth; urls alone are read with it (checkpoint/reading.py)."""
    needed, waiting = set(), ["convmae_det.feature_extractor", "convmae_det.hub"]
    while waiting:
        module = waiting.pop()
        needed.add(module)
        sources = {name if name in MODULES else name.rpartition(".")[0] for name in imports(module)}
        waiting += [name for name in sources & set(MODULES) - needed if name != "convmae_det"]
    assert "convmae_det.checkpoint.reading" in needed and "convmae_det.modeling.attention" in needed
    for module in needed - {"convmae_det.checkpoint.reading"}:
        assert not {name for name in imports(module) if inside(name, "detectron2", "fvcore", "iopath")}, module
