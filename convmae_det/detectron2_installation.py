"""Installs Detectron2, which is not on PyPI under its own name, for the Python that runs this.

`convmae-det install-detectron2` does it where the package is installed. tools/install_detectron2.py runs this file by
its path, so it imports nothing but the standard library. PyTorch must be there already.

- A Detectron2 that imports is kept.
- A source that the user names, a folder or git URL, is built, compiled part included: an argument, or ``DETECTRON2`` in
  the environment.
- Otherwise the pinned wheel is downloaded, checked against its SHA-256, and its Python part installed.

The wheel's compiled part fits one version of Python and of PyTorch only. It is left out, so that Detectron2 is the
same on every Python; the project needs nothing of it. Dependencies are never touched: setup.cfg names them.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WHEEL = "sal-detectron2==0.7.2"
WHEEL_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
WHEEL_REVISION = "Detectron2's main of 2024-04-17, Python part"
UPSTREAM = "git+https://github.com/facebookresearch/detectron2.git"

BUILD = f"`convmae-det install-detectron2 --source {UPSTREAM}`"

DISTRIBUTIONS = ("detectron2", "sal-detectron2")
SET_UP = "run `make setup` in a clone, or install convmae_det with its dependencies"
MODULES = ("detectron2.data", "detectron2.engine", "detectron2.evaluation", "detectron2.modeling")

# What pip's output says when a build fails, and the way out.
BUILD_FIXES = (
    (
        r"CUDA version .* mismatches",
        "the CUDA toolkit here is not the one PyTorch was built for: let CUDA_HOME name a matching toolkit, or set "
        "CUDA_VISIBLE_DEVICES= (empty) to build the CPU part only",
    ),
    (r"Python\.h", "Python's headers are missing: install them (Debian, Ubuntu: sudo apt install python3-dev)"),
    (
        r"Could not resolve host|unable to access|Connection timed out",
        "the repository cannot be reached: check the network, or name a folder that holds the source",
    ),
)


class InstallError(Exception):
    """One sentence: what is wrong, and what to do."""


def main(source: str | None = None) -> int:
    """Leaves a Detectron2 that imports, or says in a sentence what is wrong.

    Args:
        source: a folder or git URL to build; None: what DETECTRON2 in the environment names, if anything

    Returns:
        the exit status
    """
    try:
        provide_detectron2(source if source is not None else os.environ.get("DETECTRON2", ""))
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"error: {error}: free disk space, or use a virtual environment that you may write "
            "(`python3 -m venv .venv` makes one)",
            file=sys.stderr,
        )
    else:
        return 0
    return 1


def provide_detectron2(source: str = "") -> None:
    """Leaves a Detectron2 that imports, or raises InstallError; `source` as in :func:`main`, empty: the wheel."""
    require_pip_and_torch()
    url = source_url(source.strip()) if source.strip() else ""
    failure = import_failure()
    if not failure and (not url or built_from(url)):
        print("Detectron2 imports already: kept.")
        return
    if re.search("No module named '(?!detectron2)", failure):
        raise InstallError(f"Detectron2 is there, but not what it needs ({failure}): {SET_UP}")
    if url:
        build(url)
    else:
        install_wheel()
    failure = import_failure()
    if failure:
        raise InstallError(f"Detectron2 is installed but does not import ({failure}): run `convmae-det doctor`")
    print("Detectron2 is installed.")


def require_pip_and_torch() -> None:
    if importlib.util.find_spec("pip") is None:
        raise InstallError(f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip`")
    if importlib.util.find_spec("torch") is None:
        raise InstallError(
            f"PyTorch is missing, and Detectron2 needs it first: {SET_UP}, or `pip install torch torchvision`"
        )


def import_failure() -> str:
    """The last line of what Python says when it imports Detectron2; empty if that works."""
    # Python imports from the current folder first, which must hold no clone that passes for the installed one.
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import {', '.join(MODULES)}"],
        cwd=sys.prefix,
        capture_output=True,
        text=True,
    )
    lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
    return lines[-1] if run.returncode else ""


def pip(*arguments: str) -> tuple[int, str]:
    """Runs pip and passes its output on as it comes; returns its exit status and that output."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


# --- the pinned wheel


def install_wheel() -> None:
    """Replaces any other Detectron2 by the pinned wheel's Python part."""
    print(f"Installing {WHEEL} ({WHEEL_REVISION})")
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(Path(folder))
        verify(wheel)
        install_tools("wheel")
        install(python_part(wheel))


def download(folder: Path) -> Path:
    """Lets pip put the wheel into ``folder``. It is tagged for Python 3.10, whatever Python this is."""
    tags = ("--python-version", "3.10", "--implementation", "cp", "--abi", "none", "--platform", "any")
    status, _ = pip("download", "--no-deps", "--only-binary=:all:", *tags, "--dest", str(folder), WHEEL)
    wheels = list(folder.glob("*.whl"))
    if status or len(wheels) != 1:
        raise InstallError(
            f"pip could not download {WHEEL}, for the reason above: check the network and pip's index, let "
            f"PIP_FIND_LINKS name a folder that holds the wheel, or name a source, for example {BUILD}"
        )
    return wheels[0]


def verify(wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise InstallError(
            f"{wheel.name} has SHA-256 {digest} and not {WHEEL_SHA256}, so it was not installed: run `pip cache purge` "
            f"and try again, or name a source, for example {BUILD}"
        )


def python_part(wheel: Path) -> Path:
    """Makes a wheel of the Python part of ``wheel``, for any Python, beside it."""
    folder = wheel.parent
    run_wheel("unpack", "--dest", folder, wheel)
    (contents,) = (path for path in folder.iterdir() if path.is_dir())
    for compiled in contents.rglob("*.so"):
        compiled.unlink()
    shutil.rmtree(contents / "tools", ignore_errors=True)  # would be a package of this name for all projects
    drop_requirements(next(contents.glob("*.dist-info/METADATA")))
    wheel.unlink()
    run_wheel("pack", "--dest-dir", folder, contents)
    (packed,) = folder.glob("*.whl")
    run_wheel("tags", "--remove", "--python-tag", "py3", "--abi-tag", "none", "--platform-tag", "any", packed)
    (retagged,) = folder.glob("*.whl")
    return retagged


def run_wheel(*arguments: str | Path) -> None:
    run = subprocess.run([sys.executable, "-m", "wheel", *map(str, arguments)], capture_output=True, text=True)
    if run.returncode:
        raise InstallError(f"`wheel {arguments[0]}` failed ({run.stderr.strip()}): free disk space, or try again")


def drop_requirements(metadata: Path) -> None:
    """The wheel asks for an old numpy and for tools it never imports, and pip would complain for ever after."""
    lines = metadata.read_text(encoding="utf-8").splitlines(keepends=True)
    metadata.write_text("".join(line for line in lines if not line.startswith("Requires-Dist:")), encoding="utf-8")


# --- a source that the user names


def build(url: str) -> None:
    """Builds the source at ``url`` and, only when that has worked, replaces any other Detectron2 by it."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        raise InstallError(
            "building Detectron2 needs a C++ compiler: install one (Debian, Ubuntu: sudo apt install g++), or name no "
            "source to install the pinned wheel"
        )
    print(f"Building Detectron2 from {url} (some minutes)")
    with tempfile.TemporaryDirectory() as folder:
        # The build imports PyTorch and setuptools from here, hence no isolation.
        install_tools("setuptools", "wheel")
        status, output = pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, url)
        if status:
            raise InstallError(f"Detectron2 could not be built from {url}: {build_fix(output)}")
        install(*Path(folder).glob("*.whl"))
    importlib.invalidate_caches()
    info = importlib.metadata.distribution("detectron2")
    Path(str(info.locate_file(f"{info.name}-{info.version}.dist-info")), "direct_url.json").write_text(
        json.dumps({"url": url, "dir_info": {}})
    )


def source_url(source: str) -> str:
    """The URL by which pip knows ``source``, a folder or a git repository."""
    if "://" in source:
        if shutil.which("git") is None:
            raise InstallError(f"{source} is a git repository, but git is missing: install git, or name a folder")
        return source if source.startswith("git+") else f"git+{source}"
    folder = Path(source).expanduser().resolve()
    if not (folder / "setup.py").is_file():
        raise InstallError(
            f"{source} is neither a git URL nor a folder with Detectron2's setup.py: name the root of its clone"
        )
    return folder.as_uri()


def build_fix(output: str) -> str:
    for pattern, fix in BUILD_FIXES:
        if re.search(pattern, output):
            return fix
    return "the reason is in the output above; name no source to install the pinned wheel instead"


# --- what is installed


def installed_distribution() -> importlib.metadata.Distribution | None:
    for name in DISTRIBUTIONS:
        try:
            return importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return None


def recorded_url(distribution: importlib.metadata.Distribution) -> str:
    """The URL from which ``distribution`` was built (PEP 610); empty if it came from an index."""
    return json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")


def built_from(url: str) -> bool:
    distribution = installed_distribution()
    return distribution is not None and recorded_url(distribution) == url


def install_tools(*names: str) -> None:
    if pip("install", *names)[0]:
        raise InstallError(f"pip could not install {' and '.join(names)}, for the reason above: check the network")


def install(*wheels: Path) -> None:
    """Replaces any other Detectron2 by that of ``wheels``."""
    uninstall()
    if pip("install", "--no-deps", *map(str, wheels))[0]:
        raise InstallError("pip could not install Detectron2's wheel, for the reason above: mend it, try again")


def uninstall() -> None:
    distribution = installed_distribution()
    if distribution is not None and pip("uninstall", "--yes", distribution.metadata["Name"])[0]:
        folder = distribution.locate_file("")
        raise InstallError(f"pip could not remove the Detectron2 in {folder}, for the reason above: remove it first")


if __name__ == "__main__":
    sys.exit(main())
