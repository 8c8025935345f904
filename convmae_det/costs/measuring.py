"""Measures time and memory of functions that run alternately."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import torch
from tqdm import tqdm

from ..errors import InputError
from ..installation import find_processor_name
from ..memory import read_resident_peak

MATMUL_SIZE = {"cpu": 3072, "cuda": 8192}
MATMUL = "matrix product"
COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}  # larger than caches
COPY = "copy"


def measure_seconds(function: Callable, device: str) -> float:
    """Measures the time that one call takes on the device, "cpu" or "cuda"."""
    if device == "cpu":
        start = time.perf_counter()
        function()
        return time.perf_counter() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def measure_medians(functions: Mapping[str, Callable], repeats: int, device: str) -> dict[str, float]:
    """Measures seconds a call: medians over the repeats, after one to warm up.

    The functions run alternately, so that a change of the machine's speed affects all.
    """
    times = {name: [] for name in functions}
    for turn in tqdm(range(repeats + 1), desc="turns, the first a warm-up", disable=None):
        for name, function in functions.items():
            elapsed = measure_seconds(function, device)
            if turn:
                times[name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


def build_matrix_product(device: str, dtype: str) -> tuple[Callable, int]:
    """Builds a large matrix product, which shows the machine's speed, and returns its number of operations, too."""
    size = MATMUL_SIZE[device]
    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    return lambda: torch.mm(a, b), 2 * size**3


def build_copy(device: str) -> tuple[Callable, int]:
    """Builds a copy of a large tensor, which shows the memory's speed, and returns the bytes read and written, too."""
    source = torch.zeros(COPY_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * source.nbytes


def measure_cuda_peak(run: Callable) -> int:
    """Measures the most bytes that torch holds on the GPU while `run` runs, beyond what it held before."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def measure_process_peak(*words: str) -> int:
    """Measures the bytes by which a new process raises its resident set.

    Args:
        words: a command line of Python, of a program that calls :func:`print_peak`

    Raises:
        InputError: it fails; the message is the last line that it printed to stderr.
    """
    finished = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if finished.returncode:
        last = (finished.stderr.strip() or "it was killed, perhaps because memory ran out").splitlines()[-1]
        raise InputError(last.removeprefix("error: "))
    return int(finished.stdout.split()[-1])


def print_peak(run: Callable) -> None:
    """Runs `run` and prints the result that :func:`measure_process_peak` reads."""
    before = read_resident_peak()
    run()
    print(read_resident_peak() - before)


def describe_machine(device: str) -> dict:
    """Describes the device, "cpu" or "cuda", on which figures are measured."""
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    name = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{find_processor_name()}, {capability}, {threads} threads"
    )
    return {"device": name, "torch": torch.__version__}
