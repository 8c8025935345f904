import hashlib
import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest

from convmae_det import detectron2_installation
from convmae_det.cli import install_detectron2
from convmae_det.detectron2_installation import InstallError, provide_detectron2

MISSING = "ModuleNotFoundError: No module named 'detectron2'"
METADATA = "Metadata-Version: 2.1\nName: sal-detectron2\nVersion: 0.7.2\nRequires-Dist: numpy<2\nRequires-Dist: black\n"
INFO = "sal_detectron2-0.7.2.dist-info"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel laid out like the pinned one, and pinned in its place."""
    contents, path = tmp_path / "contents", tmp_path / "sal_detectron2-0.7.2-cp310-none-any.whl"
    files = {
        "detectron2/__init__.py": "__version__ = '0.7.2'\n",
        "detectron2/layers/nms.py": "",
        "detectron2/_C.cpython-310-x86_64-linux-gnu.so": "compiled",
        "tools/__init__.py": "",
        f"{INFO}/METADATA": METADATA,
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp310-cp310-linux_x86_64\n",
    }
    for name, text in files.items():
        (contents / name).parent.mkdir(parents=True, exist_ok=True)
        (contents / name).write_text(text)
    subprocess.run([sys.executable, "-m", "wheel", "pack", contents, "--dest-dir", tmp_path], check=True)
    (tmp_path / "sal_detectron2-0.7.2-cp310-cp310-linux_x86_64.whl").rename(path)
    monkeypatch.setattr(detectron2_installation, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without Detectron2. ``failures``: what its import says, time after time; ``pip``: by command, what that
    answers, all's well if not given; ``asked``: what pip was asked for.
    """
    state = SimpleNamespace(failures=[MISSING, ""], pip={}, asked=[])
    place = dict.fromkeys(("base", "platbase"), str(tmp_path / "machine"))
    state.site_packages = Path(sysconfig.get_path("platlib", vars=place))
    state.site_packages.mkdir(parents=True)
    real = detectron2_installation.pip

    def pip(command, *arguments):
        state.asked.append((command, *arguments))
        if arguments[-1].endswith(".whl"):
            options = ("--no-index", "--ignore-installed", "--prefix", str(tmp_path / "machine"))
            return real("install", *options, *arguments)
        answer = state.pip.get(command, (0, ""))
        return answer(*arguments) if callable(answer) else answer

    monkeypatch.setattr(detectron2_installation, "pip", pip)
    monkeypatch.setattr(detectron2_installation, "import_failure", lambda: state.failures.pop(0))
    monkeypatch.setattr(detectron2_installation, "installed_distribution", lambda: None)
    return state


def serve(wheel):
    """pip download, without a network."""

    def download(*arguments):
        target = arguments[arguments.index("--dest") + 1]
        with open(f"{target}/{wheel.name}", "wb") as copy:
            copy.write(wheel.read_bytes())
        return 0, ""

    return download


def test_keeps_a_detectron2_that_imports(machine, capsys):
    machine.failures = [""]
    provide_detectron2()
    assert machine.asked == []
    assert "kept" in capsys.readouterr().out


def test_installs_the_python_part_of_the_pinned_wheel(machine, wheel):
    """On any Python."""
    machine.pip["download"] = serve(wheel)
    provide_detectron2()
    assert machine.asked[-1][-1].endswith("sal_detectron2-0.7.2-py3-none-any.whl")
    installed = {path.relative_to(machine.site_packages).as_posix() for path in machine.site_packages.rglob("*.*")}
    assert {"detectron2/__init__.py", "detectron2/layers/nms.py", INFO} <= installed
    assert not any(name.endswith(".so") or name.startswith(("tools", ".")) for name in installed)
    record = (machine.site_packages / INFO / "RECORD").read_text()
    assert "detectron2/layers/nms.py,sha256=" in record and ".so" not in record
    assert (machine.site_packages / INFO / "METADATA").read_text() == METADATA.partition("Requires-Dist")[0]


def test_replaces_what_an_interrupted_run_left(machine, wheel):
    machine.pip["download"] = serve(wheel)
    (machine.site_packages / "detectron2").mkdir()
    (machine.site_packages / "detectron2/__init__.py").write_text("__ver")
    provide_detectron2()
    assert (machine.site_packages / "detectron2/__init__.py").read_text() == "__version__ = '0.7.2'\n"
    assert (machine.site_packages / "detectron2/layers/nms.py").is_file()


def test_a_wheel_that_is_none_is_named(machine, wheel, monkeypatch):
    wheel.write_bytes(b"PK")
    monkeypatch.setattr(detectron2_installation, "WHEEL_SHA256", hashlib.sha256(b"PK").hexdigest())
    machine.pip["download"] = serve(wheel)
    with pytest.raises(InstallError, match="`wheel unpack` failed"):
        provide_detectron2()


def test_refuses_a_wheel_with_another_hash(machine, wheel):
    wheel.write_bytes(wheel.read_bytes() + b"tampered")
    machine.pip["download"] = serve(wheel)
    with pytest.raises(InstallError, match=r"SHA-256 .*pip cache purge.*--source"):
        provide_detectron2()
    assert list(machine.site_packages.iterdir()) == []


def test_the_wheel_is_pinned_by_its_full_hash():
    assert re.fullmatch(r"[0-9a-f]{64}", detectron2_installation.WHEEL_SHA256)


def test_without_network_it_names_the_ways_out(machine):
    machine.pip["download"] = (1, "ERROR: no matching distribution")
    with pytest.raises(InstallError, match="network.*PIP_FIND_LINKS.*--source"):
        provide_detectron2()


def test_a_missing_dependency_does_not_cost_the_detectron2_that_is_there(machine):
    machine.failures = ["ModuleNotFoundError: No module named 'yacs'"]
    with pytest.raises(InstallError, match="yacs.*make setup"):
        provide_detectron2()
    assert machine.asked == []


def test_says_when_the_installed_one_does_not_import(machine, wheel):
    machine.pip["download"] = serve(wheel)
    machine.failures = [MISSING, "AttributeError: something"]
    with pytest.raises(InstallError, match="AttributeError: something.*convmae-det doctor"):
        provide_detectron2()


@pytest.mark.parametrize(("module", "fix"), [("pip", "ensurepip"), ("torch", "pip install torch")])
def test_what_it_needs_first_is_named(machine, monkeypatch, module, fix):
    monkeypatch.setattr(
        detectron2_installation.importlib.util, "find_spec", lambda name: None if name == module else name
    )
    with pytest.raises(InstallError, match=fix):
        provide_detectron2()


# --- sources


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder that looks like Detectron2's source, named by the user, on a machine with a compiler."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "setup.py").touch()
    monkeypatch.setattr(detectron2_installation.shutil, "which", lambda name: name)
    return folder


def install_as(distribution, monkeypatch):
    monkeypatch.setattr(detectron2_installation, "installed_distribution", lambda: distribution)


def fake_distribution(name="detectron2", **direct_url):
    return SimpleNamespace(
        metadata={"Name": name}, read_text=lambda file: json.dumps(direct_url), locate_file=lambda path: f"/site/{path}"
    )


def test_keeps_what_was_built_from_the_named_source(machine, source, monkeypatch):
    install_as(fake_distribution(url=source.as_uri()), monkeypatch)
    machine.failures = [""]
    provide_detectron2(str(source))
    assert machine.asked == []


@pytest.mark.parametrize("output", ["some compiler error", "The detected CUDA version (12.4) mismatches the version"])
def test_a_failed_build_leaves_the_installed_one_alone(machine, source, monkeypatch, output):
    install_as(fake_distribution("sal-detectron2"), monkeypatch)
    machine.failures = [""]
    machine.pip["wheel"] = (1, output)
    with pytest.raises(InstallError, match="could not be built") as error:
        provide_detectron2(str(source))
    assert [command for command, *_ in machine.asked] == ["install", "wheel"]  # setuptools, then the build
    assert ("CUDA_HOME" in str(error.value)) == ("CUDA" in output)


def test_a_source_is_built_without_isolation_and_replaces_the_wheel(machine, source, monkeypatch, tmp_path):
    built = fake_distribution("sal-detectron2")
    built.name, built.version = "detectron2", "0.6"
    info = tmp_path / "detectron2-0.6.dist-info"
    info.mkdir()
    built.locate_file = lambda path: tmp_path / path
    install_as(built, monkeypatch)
    monkeypatch.setattr(detectron2_installation.importlib.metadata, "distribution", lambda name: built)
    machine.failures = ["", ""]
    provide_detectron2(str(source))
    assert [command for command, *_ in machine.asked] == ["install", "wheel", "uninstall", "install"]
    wheel = machine.asked[1]
    assert {"--no-deps", "--no-build-isolation", source.as_uri()} <= set(wheel)
    assert json.loads((info / "direct_url.json").read_text())["url"] == source.as_uri()


def test_without_a_compiler_it_names_the_fix(machine, source, monkeypatch):
    monkeypatch.setattr(detectron2_installation.shutil, "which", lambda name: None)
    with pytest.raises(InstallError, match=r"compiler.*apt install g\+\+"):
        provide_detectron2(str(source))


def test_a_source_that_is_not_there_is_named(machine, monkeypatch, tmp_path):
    with pytest.raises(InstallError, match=f"{tmp_path} is neither"):
        provide_detectron2(str(tmp_path))


def test_a_git_url_needs_git_and_gets_pips_prefix(monkeypatch):
    monkeypatch.setattr(detectron2_installation.shutil, "which", lambda name: name)
    assert detectron2_installation.source_url("https://host/detectron2.git") == "git+https://host/detectron2.git"
    assert detectron2_installation.source_url("git+https://host/d.git@v0.6") == "git+https://host/d.git@v0.6"
    monkeypatch.setattr(detectron2_installation.shutil, "which", lambda name: None)
    with pytest.raises(InstallError, match="install git"):
        detectron2_installation.source_url("https://host/detectron2.git")


# --- the parts that talk to the machine


def test_pip_passes_on_output_and_status(capsys):
    status, output = detectron2_installation.pip("no-such-command")
    assert status != 0 and "no-such-command" in output
    assert output == capsys.readouterr().out


def test_import_failure_is_the_last_line_that_python_says(monkeypatch):
    monkeypatch.setattr(detectron2_installation, "MODULES", ("json", "no_such_module"))
    assert detectron2_installation.import_failure() == "ModuleNotFoundError: No module named 'no_such_module'"
    monkeypatch.setattr(detectron2_installation, "MODULES", ("json",))
    assert detectron2_installation.import_failure() == ""


def test_the_source_is_an_argument_or_in_the_environment(monkeypatch):
    sources = []
    monkeypatch.setattr(detectron2_installation, "provide_detectron2", sources.append)
    monkeypatch.delenv("DETECTRON2", raising=False)
    assert detectron2_installation.main() == 0
    monkeypatch.setenv("DETECTRON2", "folder")
    for words in ([], ["--source", "other"]):
        assert install_detectron2.main(words) == 0
    assert sources == ["", "folder", "other"]


@pytest.mark.parametrize("error", [InstallError("no network"), OSError("no space")])
def test_errors_are_one_sentence_and_status_1(monkeypatch, capsys, error):
    def fail(source):
        raise error

    monkeypatch.setattr(detectron2_installation, "provide_detectron2", fail)
    assert detectron2_installation.main("") == 1
    assert re.fullmatch(r"error: no .*\n", capsys.readouterr().err)


def test_the_script_of_a_clone_runs_where_nothing_is_installed(tmp_path):
    """-S: without what is installed, -I: without the clone."""
    script = Path(__file__).parents[1] / "tools/install_detectron2.py"
    done = subprocess.run([sys.executable, "-I", "-S", script], capture_output=True, text=True)
    assert done.returncode == 1 and re.fullmatch(r"error: .* has no pip: .*\n", done.stderr)
