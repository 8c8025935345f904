"""Imports point one way, each part has its level, and modeling/ is nothing but the method (docs/architecture.md)."""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "convmae_det"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}
for tree in TREES.values():  # less what runs where a module is started as a program, which may look up
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))]
OUTSIDE = {"benchmarks", "tests", "tools", *(path.stem for path in [*ROOT.glob("*.py"), *ROOT.glob("tools/*.py")])}

# Files and folders of the package, from the highest level to the lowest. A part imports from the levels below its own.
LEVELS = (
    ("__main__",),
    ("cli",),
    ("app", "costs", "hub", "study"),
    ("engine",),
    ("inference", "report"),
    ("visualization",),
    ("evaluation", "checkpoint"),
    ("data", "solver", "modeling"),
    ("config", "ops"),
    ("precision", "files", "installation", "detectron2_installation", "logs", "memory"),
    ("errors",),
)
LEVEL = {part: len(LEVELS) - number for number, parts in enumerate(LEVELS) for part in parts}

# What some parts know besides themselves, where that is less than all of the lower levels.
KNOWN = {
    "config": {"errors", "files", "precision"},
    "ops": {"errors"},
    "modeling": {"errors", "ops", "config"},
    "data": {"errors", "files", "precision", "config"},
    "solver": {"errors", "precision", "config"},
    "evaluation": {"errors", "files", "precision", "config", "data"},
}

MODELS = {"masked_autoencoder", "backbone", "classifier", "upernet"}  # what Detectron2 looks up by name
PARTS = {"encoder", "decoder", "window_schedule"}
BLOCKS = {"blocks", "embeddings", "attention", "masked_convolution", "masking"}


def resolved(module: str) -> Iterator[tuple[str, bool]]:
    """Dotted names of what a module of the package imports, anywhere in its code, and whether relative to it."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((f"{source}.{alias.name}", node.level > 0) for alias in node.names)


def imports(module: str) -> set[str]:
    return {name for name, _ in resolved(module)}


def inside(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def modules_of(part: str) -> list[str]:
    found = [module for module in MODULES if inside(module, f"convmae_det.{part}")]
    assert found, part
    return found


def part_of(name: str) -> str:
    """The file or folder of the package that a dotted name lies in; "" for the package itself."""
    part = name.split(".")[1] if "." in name else ""
    return part if part in LEVEL else ""


def from_modeling(module: str) -> set[str]:
    """The modules of `modeling` that a module imports from."""
    prefix = "convmae_det.modeling."
    return {name.removeprefix(prefix).split(".")[0] for name in imports(module) if name.startswith(prefix)}


def words(module: str) -> set[str]:
    """All names and attributes in a module's code, and all text in it that could be one."""
    found = set()
    for node in ast.walk(TREES[module]):
        found |= {value for _, value in ast.iter_fields(node) if isinstance(value, str) and value.isidentifier()}
    return found


def test_imports_are_resolved():
    assert "convmae_det.modeling.blocks.TransformerBlock" in imports("convmae_det.modeling.encoder")
    assert "convmae_det.errors.InputError" in imports("convmae_det.files")
    assert "convmae_det.config.defaults.add_convmae_config" in imports("convmae_det.config")
    assert "torch.nn.functional" in imports("convmae_det.modeling.attention")


# --- the whole house


def test_every_part_has_its_level():
    assert {module.split(".")[1] for module in MODULES if "." in module} == set(LEVEL)


@pytest.mark.parametrize("module", [module for module in MODULES if module != "convmae_det"])
def test_imports_point_down(module):
    own = part_of(module)
    for name in imports(module):
        if inside(name, "convmae_det") and part_of(name) not in ("", own):
            assert LEVEL[part_of(name)] < LEVEL[own], name


@pytest.mark.parametrize("part", KNOWN)
def test_parts_know_only_what_they_need(part):
    for module in modules_of(part):
        parts = {part_of(name) for name in imports(module) if inside(name, "convmae_det")}
        assert parts <= KNOWN[part] | {part}, module


def test_checkpoint_knows_only_how_tables_are_resized():
    for module in modules_of("checkpoint"):
        taken = {name for name in imports(module) if inside(name, "convmae_det.modeling")}
        assert all(".resize" in name for name in taken), module


@pytest.mark.parametrize("module", MODULES)
def test_imports_inside_the_package_are_relative(module):
    assert not {name for name, relative in resolved(module) if inside(name, "convmae_det") and not relative}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_what_is_not_installed(module):
    assert not {name for name in imports(module) if inside(name, *OUTSIDE)}


def test_precision_is_decided_without_a_model():
    assert not {name for name in imports("convmae_det.precision") if inside(name, "detectron2")}


def test_the_model_zoo_is_never_imported():
    """It needs pkg_resources, which setuptools no longer has."""
    for module in MODULES:
        assert not {name for name in imports(module) if inside(name, "detectron2.model_zoo")}, module


def test_the_feature_extractor_needs_no_detectron2():
    """Nor does what it imports of the package, at any depth; urls alone are read with it (checkpoint/reading.py)."""
    needed, waiting = set(), ["convmae_det.inference.feature_extractor", "convmae_det.hub.publish"]
    while waiting:
        module = waiting.pop()
        needed.add(module)
        sources = {name if name in MODULES else name.rpartition(".")[0] for name in imports(module)}
        waiting += [name for name in sources & set(MODULES) - needed if name != "convmae_det"]
    assert "convmae_det.checkpoint.reading" in needed and "convmae_det.modeling.attention" in needed
    for module in needed - {"convmae_det.checkpoint.reading"}:
        assert not {name for name in imports(module) if inside(name, "detectron2", "fvcore", "iopath")}, module


def test_one_module_says_how_many_workers_a_loader_has():
    """The value of the key may be auto."""

    def reads(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == "NUM_WORKERS" and isinstance(node.ctx, ast.Load)

    readers = {module for module, tree in TREES.items() if any(map(reads, ast.walk(tree)))}
    assert readers == {"convmae_det.data.stream"}


# --- modeling/


def test_every_module_of_modeling_has_its_layer():
    names = {module.rpartition(".")[2] for module in modules_of("modeling")} - {"modeling"}
    assert names == MODELS | PARTS | BLOCKS


@pytest.mark.parametrize("name", sorted(BLOCKS | PARTS))
def test_modeling_imports_downwards(name):
    assert from_modeling(f"convmae_det.modeling.{name}") <= (BLOCKS if name in BLOCKS else BLOCKS | PARTS)


def test_the_models_meet_in_the_encoder_and_its_blocks():
    parts = [from_modeling(f"convmae_det.modeling.{name}") for name in MODELS]
    for one, other in itertools.combinations(parts, 2):
        assert one & other <= BLOCKS | {"encoder"}
    assert not set().union(*parts) & MODELS


@pytest.mark.parametrize("name", sorted(BLOCKS | PARTS))
def test_the_method_knows_neither_detectron2_nor_a_configuration(name):
    module = f"convmae_det.modeling.{name}"
    above = ("detectron2", "fvcore", "yacs", "convmae_det.config")
    known = {imported for imported in imports(module) if inside(imported, *above)}
    assert known <= {"convmae_det.config.presets.STRIDE"}, known
    assert not {word for word in words(module) if "cfg" in word.lower()}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_models_hand_their_configuration_on(name):
    """To functions of config/building.py and to each other's constructors; they take nothing out of it themselves."""
    module = f"convmae_det.modeling.{name}"
    of_config = {name for name in imports(module) if inside(name, "convmae_det.config")}
    assert of_config and all(inside(name, "convmae_det.config.building") for name in of_config)
    tree = TREES[module]
    own = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    takers = own | {name.rpartition(".")[2] for name in of_config}
    handed = {
        argument
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in takers
        for argument in node.args
    }
    assert {node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "cfg"} <= handed


# What a network would have to ask in order to run in different ways; such questions are asked in ops/.
MACHINE = {"is_cuda", "is_cpu", "is_mps", "cuda", "mps", "is_available", "device_count", "get_device_properties"}
MACHINE |= {"get_cpu_capability", "cpuinfo", "cpu_count", "get_num_threads", "platform", "environ", "getenv"}
MODE = {"is_tracing", "is_scripting", "is_exporting", "is_compiling", "is_dynamo_compiling", "get_tracing_state"}
MODE |= {"is_grad_enabled", "is_inference_mode_enabled", "is_inference", "requires_grad", "grad_fn", "is_leaf"}
MODE |= {"autocast", "is_autocast_enabled", "is_autocast_cpu_enabled", "get_autocast_dtype"}


@pytest.mark.parametrize("name", sorted(BLOCKS | PARTS | MODELS))
def test_modeling_asks_neither_where_nor_how_it_runs(name):
    module = f"convmae_det.modeling.{name}"
    assert not words(module) & (MACHINE | MODE)
    kinds = [ast.unparse(node) for node in ast.walk(TREES[module]) if isinstance(node, ast.Attribute)]
    assert not [kind for kind in kinds if kind.endswith("device.type")]


def test_one_module_of_ops_asks_for_processor_compiler_and_environment():
    questions = MACHINE - {"is_cuda", "is_cpu", "is_mps"} | {"is_compiling", "is_dynamo_compiling"}
    assert len([module for module in modules_of("ops") if words(module) & questions]) <= 1


def test_modeling_is_read_in_one_sitting():
    lengths = {module: MODULES[module].read_text(encoding="utf-8").count("\n") for module in modules_of("modeling")}
    assert sum(lengths.values()) < 1500
    assert max(lengths.values()) <= 250
