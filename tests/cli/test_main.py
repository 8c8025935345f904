"""The front door: every command is listed, explains itself, and ends in the status that shells expect."""

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from convmae_det import __version__
from convmae_det.cli import main as front_door
from convmae_det.cli.main import COMMANDS, import_command, main
from convmae_det.errors import InputError, TrainingError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "convmae_det/cli"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", "")
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # for monkeypatch to restore
        monkeypatch.delenv(name)


@pytest.fixture
def command(monkeypatch):
    """command(FUNCTION): makes it what `convmae-det predict` does."""

    def command(function):
        monkeypatch.setattr(front_door, "import_command", lambda name: SimpleNamespace(main=function))
        return main(["predict", "some", "words"])

    return command


def raiser(error):
    def function(arguments):
        raise error

    return function


def run(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)


def test_every_module_is_a_command():
    modules = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "main", "arguments"}
    assert modules == {name.replace("-", "_") for name in COMMANDS}


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_list_of_commands(words, capsys):
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, line in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", "\n".join(lines), re.MULTILINE)


def test_the_command_line_is_that_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["convmae-det", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("convmae_det ")


def test_versions(capsys):
    assert main(["--version"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"convmae_det {__version__}, torch {version('torch')}, Detectron2 ")
    assert "missing" not in printed


def test_versions_of_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(front_door.importlib.util, "find_spec", lambda name: None)
    main(["--version"])
    assert capsys.readouterr().out == f"convmae_det {__version__}, torch missing, Detectron2 missing\n"


CONSOLE_SCRIPT = "import sys; from convmae_det.cli.main import main; sys.exit(main())"


@pytest.mark.parametrize("words", [["-m", "convmae_det"], ["-c", CONSOLE_SCRIPT]])
def test_the_list_needs_no_library(words, tmp_path):
    """Each that is imported would say so, and stop."""
    for name in ("torch", "torchvision", "detectron2", "numpy", "PIL", "matplotlib", "yacs"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} is imported')")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("usage: convmae-det COMMAND"), done.stderr


def test_importing_the_package_changes_no_warnings():
    program = "import logging, warnings; before = list(warnings.filters)\nimport convmae_det, convmae_det.cli.main\n"
    program += "assert warnings.filters == before and not logging.getLogger('torch.fx._symbolic_trace').filters"
    done = run("-c", program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_starts_afresh(name, python):
    """Without a warning of a library; with a sentence, examples and the options."""
    done = subprocess.run([python, "-m", "convmae_det", name, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith(f"usage: convmae-det {name} ")
    assert re.search(rf"^Examples:\n    convmae-det {name}\b", done.stdout, re.MULTILINE)
    assert "options:" in done.stdout


def examples(name: str) -> list[list[str]]:
    """The words after `convmae-det NAME`, or what starts it otherwise, of each example in a command's docstring."""
    (block,) = re.findall(r"^Examples:\n((?: {4}.*\n)+)", import_command(name).__doc__, re.MULTILINE)
    lines = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    return [words[words.index(name) + 1 :] for words in lines if name in words]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_are_understood(name):
    shown = examples(name)
    assert shown
    for words in shown:
        import_command(name).parse(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_told_with_status_2(name, capsys):
    (words, *_) = examples(name)
    assert main([name, *words, "--no-such-option"]) == 2
    assert f"convmae-det {name}: error: unrecognized arguments: --no-such-option" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_shown(name, capsys):
    """Those that say something, of all options that are shown at all."""
    with pytest.raises(SystemExit):
        import_command(name).parse(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "(default: None)" not in told and "(default: )" not in told and "(default: False)" not in told
    assert "(default: [])" not in told
    expected = {
        "predict": ["1"],
        "train": ["1", "0"],
        "reconstruct": ["8", "0", "reconstructions.png"],
        "shapes": ["600"],
    }
    for value in expected.get(name, []):
        assert f"(default: {value})" in told


def test_an_unknown_command_gets_its_neighbour(capsys):
    neighbours = {"predit": "predict", "convert_annotations": "convert-annotations", "--verison": "--version"}
    for name, near in neighbours.items():
        assert main([name]) == 2
        assert capsys.readouterr().err == f"error: convmae-det has no command {name}: did you mean {near}?\n"
    assert main(["xyz"]) == 2
    assert capsys.readouterr().err == "error: convmae-det has no command xyz: convmae-det --help lists them\n"


@pytest.mark.parametrize("status, ended", [(None, 0), (0, 0), (1, 1), (130, 130)])
def test_the_status_is_that_of_the_command(command, status, ended):
    assert command(lambda words: status if words == ["some", "words"] else 9) == ended


@pytest.mark.parametrize("kind", [InputError, TrainingError])
def test_a_mistake_is_one_line_and_status_1(command, capsys, kind):
    assert command(raiser(kind("a.yaml is wrong: correct it"))) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: a.yaml is wrong: correct it\n")


def test_ctrl_c_is_status_130(command, capsys):
    assert command(raiser(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_other_errors_are_faults_of_the_program(command):
    with pytest.raises(ZeroDivisionError):
        command(raiser(ZeroDivisionError()))


FLOOD = """
import sys
from types import SimpleNamespace
from convmae_det.cli import main
def flood(words):
    for number in range({lines}):
        print(number)
    {end}
main.import_command = lambda name: SimpleNamespace(main=flood)
sys.exit(main.main(["predict"]))
"""


@pytest.mark.parametrize(
    "lines, end, options",
    [(100_000, "return 1", []), (100_000, "return 1", ["-u"]), (3, "return 1", []), (3, "sys.exit(0)", [])],
)
def test_a_reader_that_has_gone_ends_it_quietly(lines, end, options):
    """As behind ``| head``: while it writes, and where all is written at the end, also by argparse."""
    program = "import sys; sys.stdin.read()\n" + FLOOD.format(lines=lines, end=end)
    process = subprocess.Popen(
        [sys.executable, *options, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_another_broken_pipe_is_not_hidden():
    done = run("-c", FLOOD.format(lines=3, end="raise BrokenPipeError"))
    assert done.returncode == 1 and "BrokenPipeError" in done.stderr


def test_processes_that_a_command_starts_are_quiet_too(command, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "error::ResourceWarning")
    command(lambda words: 0)
    program = "import warnings; warnings.warn('`torch.jit.script` is deprecated. Please', FutureWarning)\n"
    program += "warnings.warn('torch.meshgrid: in an upcoming release, it will be', UserWarning)\n"
    assert run("-c", program).stderr == ""
    assert "ResourceWarning" in run("-c", program + "warnings.warn('left open', ResourceWarning)").stderr


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_how_threads_wait_is_set_before_torch_unless_the_user_has(command, monkeypatch, name):
    def read(arguments):
        told.append({name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")})

    told = []
    command(read)
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv(name, "user's")
    command(read)
    assert told[0] == {"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": front_door.SPINS}
    assert told[1] == told[0] | {"GOMP_SPINCOUNT": None} | {name: "user's"}
