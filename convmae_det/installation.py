"""What is installed on this machine, whether the project can run with it, and how to mend what is wrong.

Nothing but the standard library is imported until it is examined, so that this works where everything else is broken.
tools/doctor.py runs this file by its path, in no package, and with Pythons that are too old for the others.
"""

from __future__ import annotations

import configparser
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of a clone; elsewhere there is no setup.cfg
UPSTREAM = "git+https://github.com/facebookresearch/detectron2.git"
DETECTRON2 = ("detectron2", "sal-detectron2")  # what distributions of it are called
# What the extras of setup.cfg give whoever uses the project; dev and docs are for those who work on it.
EXTRAS = {
    "onnx": "`convmae-det export --format onnx`",
    "bands": "compressed TIFF of many bands",
    "shards": "pretraining from tar shards on S3, Google Cloud Storage and web servers",
    "large": "slides, and compressed TIFF, in tiles",
    "lora": "SOLVER.LORA_RANK: adapters in place of the whole encoder",
    "app": "`convmae-det serve`",
    "wandb": "curves on Weights & Biases",
    "mlflow": "curves in MLflow",
}
SHOWN = ("torch", "torchvision", "timm", "numpy", "pillow", "pycocotools", "setuptools")
SET_UP = "run `make setup` in a clone, or install convmae_det again"


@dataclass(frozen=True)
class Facts:
    """What the checks judge."""

    python: tuple[int, int]
    minimums: dict[str, str] = field(default_factory=dict)  # distribution -> the oldest version that will do
    versions: dict[str, str] = field(default_factory=dict)  # distribution -> installed version
    failures: dict[str, str] = field(default_factory=dict)  # module -> why it does not import
    pkg_resources: bool = True
    gpus: tuple[str, ...] = ()  # as the NVIDIA driver lists them
    cuda_of_torch: str | None = None  # the version torch was built for
    cuda_of_toolkit: str | None = None  # the version of nvcc
    cuda_works: bool = False


# --- what keeps the project from running


def old_python(facts: Facts) -> str | None:
    if facts.python < (3, 10):
        return "Python 3.10 or newer is needed: in a clone, remove .venv and run `make setup PYTHON=python3.12`"
    return None


def missing_or_old_packages(facts: Facts) -> str | None:
    missing = [name for name in facts.minimums if name not in facts.versions]
    old = [
        f"{name} {facts.versions[name]} (needs {minimum})"
        for name, minimum in facts.minimums.items()
        if name in facts.versions and is_older(facts.versions[name], minimum)
    ]
    wrong = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("too old", old)) if names]
    return f"packages {'; '.join(wrong)}; {SET_UP}" if wrong else None


def broken_torch(facts: Facts) -> str | None:
    reason = facts.failures.get("torch")
    if reason and "torch" in facts.versions:
        return f"torch does not import ({reason}): run `pip install --force-reinstall torch torchvision`"
    return None


def mismatched_torchvision(facts: Facts) -> str | None:
    reason = facts.failures.get("torchvision")
    if not reason or "torchvision" not in facts.versions or "torch" in facts.failures:
        return None
    build = facts.versions.get("torch", "").partition("+")[2]
    index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
    return (
        f"torchvision's operators do not work with this torch ({reason}): install the same build of both by "
        f"`pip install --force-reinstall torch torchvision{index}`"
    )


def mismatched_pycocotools(facts: Facts) -> str | None:
    reason = facts.failures.get("pycocotools")
    if reason and "pycocotools" in facts.versions:
        return (
            f"pycocotools does not import ({reason}): most likely it was built for another numpy; run "
            "`pip install --force-reinstall --no-deps --no-cache-dir 'pycocotools>=2.0.8'`"
        )
    return None


def broken_detectron2(facts: Facts) -> str | None:
    reason = facts.failures.get("detectron2")
    if not reason or "torch" in facts.failures:
        return None
    if "No module named 'detectron2'" in reason:
        return "Detectron2 is missing: run `convmae-det install-detectron2`, or, in a clone, `make setup`"
    if re.search(r"no attribute '(LINEAR|bool|float|int|object)'", reason):
        return (
            f"this Detectron2 is too old for the installed Pillow and numpy ({reason}): remove it by "
            "`pip uninstall detectron2` and run `convmae-det install-detectron2`"
        )
    return f"Detectron2 does not import ({reason}): mend what is named above, then `convmae-det install-detectron2`"


def broken_project(facts: Facts) -> str | None:
    reason = facts.failures.get("convmae_det")
    others = facts.failures.keys() - {"convmae_det", "detectron2._C"}
    if reason and not others:
        return f"convmae_det does not import ({reason}): {SET_UP}, and look in `git status` for lost files"
    return None


PROBLEMS = (
    old_python,
    missing_or_old_packages,
    broken_torch,
    mismatched_torchvision,
    mismatched_pycocotools,
    broken_detectron2,
    broken_project,
)


# --- what is good to know


def missing_compiled_part(facts: Facts) -> str | None:
    if "detectron2._C" in facts.failures and "detectron2" not in facts.failures:
        return (
            "Detectron2's compiled part is absent, so rotated boxes and deformable convolutions do not work; neither "
            "is needed here, and a build from source has both: "
            f"`convmae-det install-detectron2 --source {UPSTREAM}`"
        )
    return None


def missing_pkg_resources(facts: Facts) -> str | None:
    if not facts.pkg_resources:
        return (
            "setuptools 82 and newer have no pkg_resources, so detectron2.model_zoo does not import; convmae_det does "
            "without it, and `pip install 'setuptools<82'` brings it back for other projects"
        )
    return None


def cpu_torch_beside_gpu(facts: Facts) -> str | None:
    if facts.gpus and "torch" in facts.versions and "torch" not in facts.failures and facts.cuda_of_torch is None:
        return (
            f"this machine has a GPU ({facts.gpus[0]}), but torch {facts.versions['torch']} is built for the CPU: run "
            "`pip install --force-reinstall torch torchvision` without a CPU index"
        )
    return None


def old_driver(facts: Facts) -> str | None:
    if facts.gpus and facts.cuda_of_torch and not facts.cuda_works:
        return (
            f"torch is built for CUDA {facts.cuda_of_torch} but cannot use the GPU ({facts.gpus[0]}): look whether "
            "CUDA_VISIBLE_DEVICES hides it, update the driver, or install torch for an older CUDA from pytorch.org"
        )
    return None


def mismatched_toolkit(facts: Facts) -> str | None:
    if not (facts.cuda_works and facts.cuda_of_torch and facts.cuda_of_toolkit):
        return None
    if parse_release(facts.cuda_of_torch)[0] == parse_release(facts.cuda_of_toolkit)[0]:
        return None
    return (
        f"nvcc is of CUDA {facts.cuda_of_toolkit} and torch of CUDA {facts.cuda_of_torch}; to build Detectron2 from "
        "source, and only then, let CUDA_HOME name a matching toolkit, or set CUDA_VISIBLE_DEVICES= (empty)"
    )


NOTES = (missing_compiled_part, missing_pkg_resources, cpu_torch_beside_gpu, old_driver, mismatched_toolkit)


def is_older(version: str, other: str) -> bool:
    return parse_release(version) < parse_release(other)


def parse_release(version: str) -> tuple[int, ...]:
    """Parses the numbers of a version: "2.15.0+cpu" is (2, 15, 0)."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[^\d.]", version)[0])))


# --- finding the facts


def import_all(*modules: str) -> None:
    for module in modules:
        importlib.import_module(module)


def call_torchvision_operator() -> None:
    import torch
    import torchvision

    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


PROBES: dict[str, Callable[[], None]] = {
    "torch": functools.partial(import_all, "torch"),
    "torchvision": call_torchvision_operator,
    "pycocotools": functools.partial(import_all, "pycocotools.mask"),
    "detectron2": functools.partial(
        import_all, "detectron2.data", "detectron2.engine", "detectron2.evaluation", "detectron2.modeling"
    ),
    "detectron2._C": functools.partial(import_all, "detectron2._C"),
    "convmae_det": functools.partial(import_all, "convmae_det.engine.detection", "convmae_det.engine.pretraining"),
}


def find_failure(probe: Callable[[], None]) -> str | None:
    try:
        probe()
    except Exception as error:  # a broken installation raises almost anything
        return f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return None


def gather_facts() -> Facts:
    failures = {name: reason for name, probe in PROBES.items() if (reason := find_failure(probe))}
    minimums = read_minimums()
    versions = {name: version for name in (*minimums, *SHOWN) if (version := find_version(name))}
    torch = None if "torch" in failures else sys.modules["torch"]
    return Facts(
        python=sys.version_info[:2],
        minimums=minimums,
        versions=versions,
        failures=failures,
        pkg_resources=importlib.util.find_spec("pkg_resources") is not None,
        gpus=tuple(re.findall(r"^GPU \d+: (.*?)(?: \(UUID.*)?$", read_output("nvidia-smi", "-L"), re.MULTILINE)),
        cuda_of_torch=torch.version.cuda if torch else None,
        cuda_of_toolkit=next(iter(re.findall(r"release ([\d.]+)", read_output("nvcc", "--version"))), None),
        cuda_works=torch is not None and torch.cuda.is_available(),
    )


def read_minimums(extra: str = "") -> dict[str, str]:
    """Reads the lowest version of each distribution that the project needs, or that one of its extras does.

    They are those of the clone's setup.cfg, or else of what was installed.
    """
    setup_cfg = configparser.ConfigParser()
    if setup_cfg.read(ROOT / "setup.cfg") and setup_cfg.get("metadata", "name", fallback="") == "convmae_det":
        place = ("options.extras_require", extra) if extra else ("options", "install_requires")
        lines = setup_cfg.get(*place).split()
    elif find_version("convmae_det"):
        wanted = f"extra=={extra}" if extra else ""
        pairs = [line.partition(";")[::2] for line in importlib.metadata.requires("convmae_det") or ()]
        lines = [line for line, condition in pairs if re.sub("[ '\"]", "", condition) == wanted]
    else:
        lines = []
    return dict(pair for line in lines for pair in re.findall(r"^([\w.-]+).*?>=\s*([\w.]+)", line))


def find_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


# --- the report


def describe_facts(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yields pairs of a name and what was found."""
    yield "Python", f"{platform.python_version()} in {sys.executable}"
    for name in SHOWN:
        yield name, facts.versions.get(name, "missing")
    if "detectron2" not in facts.failures:
        package = Path(str(sys.modules["detectron2"].__file__)).parent
        version = sys.modules["detectron2"].__version__
        yield "Detectron2", f"{version} in {package}, {find_origin_of_detectron2(package)}"
    if "torch" not in facts.failures:
        for device in describe_devices(facts):
            yield "device", device
    for extra, gives in EXTRAS.items():
        yield "extra", describe_extra(extra, gives)
    for found in describe_data_sets(Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()):
        yield "data", found


def describe_extra(extra: str, gives: str) -> str:
    """Describes what an extra of setup.cfg has, or would give."""
    minimums = read_minimums(extra)
    versions = {name: find_version(name) for name in minimums}
    if all(version and not is_older(version, minimums[name]) for name, version in versions.items()):
        has = ", ".join(f"{name} {version}" for name, version in versions.items())
        return f"{extra}: {has}"
    return f"{extra}: not there; `pip install 'convmae_det[{extra}]'` brings {gives}"


def find_origin_of_detectron2(package: Path) -> str:
    """Finds where the Detectron2 whose code lies in the folder `package` came from."""
    for name in filter(find_version, DETECTRON2):
        distribution = importlib.metadata.distribution(name)
        if Path(str(distribution.locate_file("detectron2"))).resolve() == package.resolve():
            url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url")
            return f"built from {url}" if url else f"from the distribution {name} {distribution.version}"
    return "from that folder"


def find_processor_name() -> str:
    """Finds the name of the CPU, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def describe_devices(facts: Facts) -> Iterator[str]:
    import torch

    for index in range(torch.cuda.device_count() if facts.cuda_works else 0):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.0f} GiB, CUDA {facts.cuda_of_torch}"
        yield f"cuda:{index} {properties.name}, {memory}{describe_bfloat16(facts, f'cuda:{index}')}"
    yield f"CPU, {torch.get_num_threads()} threads{describe_bfloat16(facts, 'cpu')}"


def describe_bfloat16(facts: Facts, device: str) -> str:
    if "convmae_det" in facts.failures:
        return ""
    has = importlib.import_module("convmae_det.precision").has_bfloat16(device)
    return f", bfloat16: {'yes' if has else 'emulated'}"


def describe_data_sets(root: Path) -> Iterator[str]:
    """Yields a line for each data set in COCO's layout under `root`, and for COCO itself even if it isn't there."""
    if not root.is_dir():
        yield f"there is no folder {root}: let DETECTRON2_DATASETS name the folder that holds coco/"
        return
    names = {"coco", *(path.parent.name for path in root.glob("*/annotations"))}
    for name in sorted(names):
        yield describe_data_set(root / name)


def describe_data_set(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: missing"
    wanted = ["instances_train2017.json", "instances_val2017.json"] if folder.name == "coco" else []
    present = sorted(path.name for path in folder.glob("annotations/*.json"))
    annotations = present + [f"{name} MISSING" for name in wanted if name not in present]
    images = {"train2017": 0, "val2017": 0} if folder.name == "coco" else {}
    images |= {
        path.name: count_files(path) for path in folder.iterdir() if path.is_dir() and path.name != "annotations"
    }
    counts = [f"{name} {count} images" for name, count in sorted(images.items())]
    return f"{folder}: {', '.join(annotations + counts)}"


def count_files(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.is_file() for entry in entries)


def report_installation() -> int:
    """Prints what was found. Returns the exit status: 1 if the project can't run."""
    warnings.simplefilter("ignore")
    facts = gather_facts()
    for name, found in describe_facts(facts):
        print(f"{name:<12} {found}")
    problems = [sentence for check in PROBLEMS if (sentence := check(facts))]
    for sentence in problems:
        print(f"problem: {sentence}")
    for sentence in filter(None, (check(facts) for check in NOTES)):
        print(f"note: {sentence}")
    print("convmae_det can't run here: see the problems above." if problems else "convmae_det can run here.")
    return 1 if problems else 0
