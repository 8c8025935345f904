"""What is built of the project works far from its sources, and setup.cfg names what it needs, no more and no less."""

import ast
import configparser
import re
import runpy
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from reference.packages import PIP, build, copy_source, libraries, succeed

import convmae_det

ROOT = Path(__file__).parents[1]
COMMANDS = {"train", "pretrain", "predict", "convert", "export", "reconstruct", "visualize", "analyze", "doctor"}

# --- what is built


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return copy_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    """A folder with a source distribution, and the wheel that was built from that, as by the workflow of a release."""
    folder = tmp_path_factory.mktemp("built")
    build(source, folder, GITHUB_REPOSITORY="owner/name", GITHUB_REF_NAME="v1")
    return folder


class Installed(NamedTuple):
    """The wheel alone, in a folder of its own, and another folder to work in."""

    target: Path
    folder: Path

    @property
    def command(self) -> Path:
        return self.target / "bin" / "convmae-det"

    def run(self, *words: str | Path) -> str:
        """What Python prints. -S: it doesn't read the environment's .pth files, one of which may lead to the clone."""
        return succeed([sys.executable, "-S", *words], cwd=self.folder, path=[self.target, *libraries()])


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    installed = Installed(*(tmp_path_factory.mktemp(name) for name in ("target", "elsewhere")))
    succeed([sys.executable, *PIP, "--target", installed.target, *built.glob("*.whl")])
    return installed


def test_the_wheel_holds_the_package_and_its_configurations_alone(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
    files = [*ROOT.glob("convmae_det/**/*.py"), ROOT / "convmae_det/py.typed"]
    files += ROOT.glob("convmae_det/report/templates/*")
    expected = [path.relative_to(ROOT).as_posix() for path in files]
    configs = [*ROOT.glob("configs/**/*.yaml"), ROOT / "configs/__init__.py"]
    expected += [f"convmae_det/{path.relative_to(ROOT).as_posix()}" for path in configs]
    assert sorted(names) == sorted(expected)


def test_the_version_is_that_of_the_package(built):
    assert {path.name for path in built.iterdir()} == {
        f"convmae_det-{convmae_det.__version__}.tar.gz",
        f"convmae_det-{convmae_det.__version__}-py3-none-any.whl",
    }


def test_the_source_distribution_holds_what_building_needs(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"LICENSE", "README.md", "setup.cfg", "setup.py", "pyproject.toml", "convmae_det/py.typed"} <= names
    assert {"Makefile", "CITATION.cff", "docs/conf.py", "tests/conftest.py", "tools/doctor.py"} <= names


def test_on_pypi_all_links_and_pictures_lead_into_the_repository(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = file.read(name).decode()
    description = metadata.partition("\n\n")[2]
    targets = re.findall(r'\]\((?!#)([^)\s]+)|(?:src|srcset|href)="([^"#]+)', description)
    assert targets and all(re.match("https?://", target or other) for target, other in targets)
    assert "(https://github.com/owner/name/blob/v1/docs/quickstart.md)" in description
    assert "Project-URL: Source, https://github.com/owner/name\n" in metadata


def test_links_and_pictures_are_told_apart(monkeypatch, tmp_path):
    """A picture may lie in a link, and a link needs no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    # the real one can't be imported where a library has imported distutils first
    fake = SimpleNamespace(setup=lambda **options: None, find_packages=lambda **options: [])
    monkeypatch.setitem(sys.modules, "setuptools", fake)
    (tmp_path / "README.md").write_text(
        '[![badge](a.svg)](b.md) <img src="c.png"> <a href="d.md"> [e](#e) [f](https://f/) ![g](https://g/)'
    )
    raw, blob = "https://raw.githubusercontent.com/owner/name/main", "https://github.com/owner/name/blob/main"
    assert runpy.run_path(str(ROOT / "setup.py"))["read_description"]() == (
        f'[![badge]({raw}/a.svg)]({blob}/b.md) <img src="{raw}/c.png"> <a href="{blob}/d.md"> '
        "[e](#e) [f](https://f/) ![g](https://g/)"
    )


def test_the_encoder_runs_without_detectron2(installed):
    program = """
import sys
for name in ("detectron2", "fvcore", "iopath", "pycocotools"):
    sys.modules[name] = None  # makes importing it fail
import torch
import convmae_det
features = convmae_det.create_encoder("tiny")(torch.zeros(1, 3, 64, 96))
print([tuple(feature.shape[2:]) for feature in features.values()], convmae_det.__file__)
"""
    assert installed.run("-c", program).split("\n")[-2] == (
        f"[(16, 24), (8, 12), (4, 6), (2, 3)] {installed.target / 'convmae_det' / '__init__.py'}"
    )


def test_detectron2_reads_the_configurations(installed):
    program = """
from importlib.resources import files
from convmae_det.config import add_convmae_config
from detectron2.config import get_cfg
cfg = get_cfg()
add_convmae_config(cfg)
cfg.merge_from_file(files("convmae_det.configs") / "quickstart/mask_rcnn_convmae_tiny_shapes.yaml")
print(cfg.MODEL.CONVMAE.ARCH, cfg.MODEL.BACKBONE.NAME, cfg.DATASETS.TRAIN)
"""
    assert installed.run("-c", program).endswith("tiny build_convmae_fpn_backbone ('shapes_train',)\n")


def test_the_command_lists_its_commands(installed):
    told = installed.run(installed.command, "--help")
    assert set(re.findall(r"^ +([a-z_-]+)\b", told, re.MULTILINE)) >= COMMANDS
    assert told == installed.run("-m", "convmae_det", "--help")


def test_a_command_runs_with_a_configuration_that_builds_on_an_installed_one(installed):
    mine = "_BASE_: convmae_det://mask_rcnn_convmae_tiny.yaml\nMODEL:\n  DEVICE: cpu\n"
    (installed.folder / "mine.yaml").write_text(mine)
    told = installed.run(installed.command, "analyze", "--config-file", "mine.yaml", "--sizes", "64", "--repeats", "1")
    assert "stage 3" in told


def test_an_editable_install_has_the_configurations_of_the_clone(source, tmp_path):
    succeed([sys.executable, *PIP, "--no-build-isolation", "--target", tmp_path, "--editable", source])
    program = """
import site, sys
site.addsitedir(sys.argv[1])
from importlib.resources import files
print(files("convmae_det.configs"))
"""
    told = succeed([sys.executable, "-S", "-c", program, tmp_path], cwd=tmp_path, path=libraries())
    assert Path(told.split("\n")[-2]) == source / "configs"


# --- what setup.cfg names

# distributions that are not called like the module that is imported
DISTRIBUTIONS = {
    "openslide": "openslide-python",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "fontTools": "fonttools",
    "hydra": "hydra-core",
    "torch.utils.tensorboard": "tensorboard",
    "yaml": "pyyaml",
}
PLUGINS = {
    "build",
    "furo",
    "ipykernel",
    "myst-parser",
    "nbclient",
    "onnx",
    "onnxruntime",
    "pyrefly",
    "playwright",
    "pytest-xdist",
    "ruff",
    "setuptools",
    "sphinx",
    "wheel",
}  # used without an import
OWN = {"convmae_det", "detectron2", "benchmarks", *(path.stem for path in ROOT.glob("*.py"))}
OWN |= {path.stem for folder in ("tools", "tests") for path in (ROOT / folder).rglob("*")}


@pytest.fixture(scope="module")
def options():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def names(requirements: str) -> set[str]:
    return {re.split(r"[<>=!~; ]", line)[0].replace("_", "-") for line in requirements.split("\n") if line}


def imported(folder: Path, *, always: bool = False) -> set[str]:
    """Distributions that code in `folder` imports; with `always` those without which a module can't be imported."""
    found = set()
    for path in folder.rglob("*.py"):
        for name in modules(ast.parse(path.read_text(encoding="utf-8")), always):
            module = name.partition(".")[0]
            found.add(DISTRIBUTIONS.get(name) or DISTRIBUTIONS.get(module) or module.replace("_", "-"))
    return found - {name.replace("_", "-") for name in [*sys.stdlib_module_names, *OWN]}


def modules(tree: ast.AST, always: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
        elif not (always and isinstance(node, (ast.FunctionDef, ast.If, ast.Try))):
            yield from modules(node, always)


def test_what_is_imported_is_required(options):
    required = names(options["options"]["install_requires"])
    extras = {extra: names(text) for extra, text in options["options.extras_require"].items()}
    package = ROOT / "convmae_det"
    assert imported(package, always=True) <= required
    assert imported(package) <= required.union(*(extras[extra] for extra in extras if extra != "dev"))
    for folder in ("benchmarks", "tests"):
        assert imported(ROOT / folder) <= required | extras["dev"], folder


def test_what_is_required_is_imported(options):
    ours, detectron2s = map(names, options["options"]["install_requires"].split("\n\n"))
    assert ours <= imported(ROOT / "convmae_det")
    assert not detectron2s & imported(ROOT / "convmae_det")
    assert detectron2s <= imported(Path(find_spec("detectron2").origin).parent)
    dev = names(options["options.extras_require"]["dev"])
    assert dev - PLUGINS <= imported(ROOT / "convmae_det") | imported(ROOT / "tests")


def test_tools_start_before_anything_is_installed():
    assert not imported(ROOT / "tools", always=True)
