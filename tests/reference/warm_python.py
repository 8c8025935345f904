"""A Python that has imported the large libraries already: each program is run by a fork of one process that waits.

What tests start as ``[python, …]``, with the fixture `python` of tests/conftest.py, in place of ``[sys.executable, …]``
is a process of its own, with the arguments, environment, folder, streams and end of that. It leads a process group, and
is killed when the process that was started is. Detectron2, which looks at the environment when it is imported, and this
project are imported by each program itself. Differs from an interpreter: there are no options but -c, -m and -u,
the libraries run one thread, and all programs have one order of sets.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "timm", "matplotlib.pyplot", "torch.utils.tensorboard")
# what Detectron2, and then the project, import in nearly every program
LIBRARIES += ("cv2", "fvcore.common.checkpoint", "fvcore.nn", "hydra", "pycocotools.cocoeval", "tabulate")
LIBRARIES += ("av", "contourpy", "jinja2", "scipy.ndimage", "shapely.geometry", "torch._dynamo")
PROGRAM = """\
#!{python} -IS
import sys
sys.path.append({folder!r})
import warm_python
warm_python.ask({address!r})
"""


class WarmPython:
    """A context in which `executable`, a path, may be started."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="python")  # its path is short enough for a socket's
        self.executable, address = (os.path.join(self.folder.name, name) for name in ("python", "socket"))
        program = PROGRAM.format(python=sys.executable, folder=str(Path(__file__).parent), address=address)
        Path(self.executable).write_text(program)
        os.chmod(self.executable, 0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno())],
                stdin=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        return self

    def __exit__(self, *error):
        self.process.terminate()  # closing its input is not enough: forks of this process may hold that open
        self.process.communicate()
        self.folder.cleanup()


# --- in what is started


def ask(address: str) -> None:
    """Has this process's program run by a fork of the one that waits, and ends as that ends."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"."], [0, 1, 2])
        request = {"words": sys.argv, "environment": dict(os.environ), "folder": os.getcwd()}
        connection.sendall(json.dumps(request).encode() + b"\n")
        status = int(connection.makefile().readline())
    if status >= 0:
        sys.exit(status)
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


# --- in the process that waits, and in its forks


def wait_for_program(listener: socket.socket) -> list[str]:
    """Returns in a fork of this process, for each that asks, with its words."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return serve(connection)
        connection.close()


def serve(connection: socket.socket) -> list[str]:
    """Returns in a fork, which is watched from here."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile().readline())
    if child := os.fork():
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(b"%d\n" % watch(child, connection))
        os._exit(0)
    connection.close()
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    return request["words"]


def watch(child: int, connection: socket.socket) -> int:
    """The child's status; kills its group where nobody waits for it any more."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if select.select([connection], [], [], 0.01)[0]:
            os.killpg(child, signal.SIGKILL)
            os._exit(0)


def run(executable: str, kind: str, *words: str) -> None:
    """As ``executable kind words…`` does, where `kind` is a path, -m, -c or - for what standard input says."""
    sys.executable = executable
    if kind == "-u":
        sys.stdout.reconfigure(write_through=True)
        kind, *words = words
    folder = {"-m": os.getcwd(), "-c": "", "-": ""}.get(kind, os.path.dirname(os.path.realpath(kind)))
    added = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [folder, *map(os.path.abspath, added)]
    if kind == "-m":
        sys.argv = list(words)
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif kind in ("-c", "-"):
        text, *words = words if kind == "-c" else (sys.stdin.read(), *words)
        sys.argv, sys.modules["__main__"] = [kind, *words], types.ModuleType("__main__")
        exec(compile(text, "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv = [kind, *words]
        runpy.run_path(kind, run_name="__main__")


def end_at_once(statuses: list[int]) -> None:
    """Instead of clearing all modules, which takes longer than most programs."""
    for status in statuses:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    statuses: list[int] = []
    atexit.register(end_at_once, statuses)  # first, to be called last
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    words = wait_for_program(socket.socket(fileno=int(sys.argv[1])))
    try:
        run(*words)
        statuses.append(0)
    except SystemExit as ended:
        statuses.append(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise
