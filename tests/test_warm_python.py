"""The Python that tests start in place of sys.executable, because it is warm, does what that does."""

import os
import signal
import subprocess
import sys

import pytest

SURROUNDINGS = """
import os, sys
print(__name__, sys.argv, sys.path[:3], os.getcwd(), os.environ["GREETING"], sys.stdin.readline())
print([name for name in sys.modules if name.startswith(("detectron2", "convmae_det"))])
print(len(os.listdir("/proc/self/task")), "thread", file=sys.stderr)
"""


@pytest.fixture
def both(python):
    """``both(words, …)``: what comes of the program in a fresh interpreter and in the warm one."""

    def run(*words, **options):
        options |= {"capture_output": True, "text": True}
        return [subprocess.run([executable, *words], **options) for executable in (sys.executable, python)]

    return run


@pytest.mark.parametrize("kind", ["-c", "-", "-m", "script.py"])
def test_surroundings(both, tmp_path, kind):
    (tmp_path / "script.py").write_text(SURROUNDINGS)
    words = {"-c": ["-c", SURROUNDINGS], "-m": ["-m", "script"]}.get(kind, [kind])
    text = SURROUNDINGS if kind == "-" else "a line\n"
    environment = os.environ | {"GREETING": "Grüß Gott", "PYTHONPATH": f"elsewhere{os.pathsep}and there"}
    fresh, warm = both(*words, "a word", "--help", cwd=tmp_path, env=environment, input=text)
    assert "Grüß Gott" in fresh.stdout and fresh.stderr == "1 thread\n"
    assert (warm.returncode, warm.stdout, warm.stderr) == (0, fresh.stdout, fresh.stderr)


@pytest.mark.parametrize(
    "program, status",
    [
        ("", 0),
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('a sentence')", 1),
        ("import os; os._exit(4)", 4),
        ("import atexit; atexit.register(print, 'the end'); print('almost')", 0),
        ("import threading; threading.Timer(0.1, print, ['the end']).start()", 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os, signal; os.kill(0, signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_ends(both, program, status):
    fresh, warm = both("-c", program, start_new_session=True)
    assert fresh.returncode == status
    assert (warm.returncode, warm.stdout, warm.stderr) == (status, fresh.stdout, fresh.stderr)


def test_tracebacks(both):
    fresh, warm = both("-c", "def f():\n    1 / 0\nf()")
    assert fresh.returncode == warm.returncode == 1
    assert warm.stderr.endswith(fresh.stderr.partition("\n")[2])


def test_what_is_killed_takes_its_program_along(python):
    program = "import time; print('here', flush=True); time.sleep(1000)"
    process = subprocess.Popen([python, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    process.kill()
    assert process.communicate(timeout=60) == ("", None)  # the program holds the pipe while it lives
