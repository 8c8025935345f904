"""Memory of this process, and of the machine or container that it runs in (Linux); sizes are in bytes."""

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

PROCESS, MACHINE, GROUPS = Path("/proc/self"), Path("/proc/meminfo"), Path("/sys/fs/cgroup")
# Of a control group: its limit, what is used of it, and what of that is files which give way; versions 2 and 1.
GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def read_resident() -> int:
    """Reads what this process has in memory."""
    return _read_number(PROCESS / "status", "VmRSS") * 1024


def read_resident_peak() -> int:
    """Reads the most that this process has had in memory."""
    return _read_number(PROCESS / "status", "VmHWM") * 1024


def is_told() -> bool:
    """Whether the system tells what this process has in memory; some containers' don't."""
    try:
        return all(_read_number(PROCESS / "status", name) for name in ("VmRSS", "VmHWM", "VmData", "VmSize"))
    except OSError:
        return False


def forget_peak() -> None:
    """Lets the peak begin anew, where the system allows it: otherwise it stays, and is never too small."""
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")


def read_available() -> int | None:
    """Reads how much more can be used without swapping, of the machine and of each control group around this process.

    Returns:
        The bytes; None where the system doesn't say.
    """
    try:
        machine = _read_number(MACHINE, "MemAvailable") * 1024
    except OSError:
        return None
    groups = [room for group in _list_groups() if (room := _read_room(group)) is not None]
    return max(min(machine, *groups), 0) if groups else machine


def read_own_limit() -> int | None:
    """Reads how much more the limits of this process, those of `ulimit`, let it take; None without any."""
    import resource  # which only Unix has

    rooms = []
    for kind, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            rooms.append(max(limit - _read_number(PROCESS / "status", used) * 1024, 0))
    return min(rooms, default=None)


@contextlib.contextmanager
def limit_growth(room: int) -> Iterator[None]:
    """Lets allocations beyond so many bytes fail meanwhile, before the system ends the process for want of memory."""
    import resource  # which only Unix has

    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _read_number(PROCESS / "status", "VmData") * 1024 + room
    bounds = [limit, *(bound for bound in before if bound != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def is_exhausted(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, as PyTorch's allocator, oneDNN or Python do."""
    words = (
        r"can't allocate memory|out of memory|could not create a (memory|primitive)|bad_alloc|temporarily unavailable"
    )
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EAGAIN)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(re.search(words, str(error))))


def _list_groups() -> list[Path]:
    """Lists the folders of the control groups of memory that this process is in, outer ones too.

    A container sees its own group at the root, and may be told a path that only the machine has.
    """
    try:
        lines = (PROCESS / "cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            root = GROUPS / "memory" if controllers else GROUPS
            inner = root / path.strip("/")
            folders += [inner, *(outer for outer in inner.parents if outer.is_relative_to(root))]
    return folders


def _read_room(group: Path) -> int | None:
    """Reads how much more a control group may use; None if it has no limit."""
    for limit, used, files in GROUP_FILES:
        try:
            most = int((group / limit).read_text())
            return most - int((group / used).read_text()) + _read_number(group / "memory.stat", files)
        except (OSError, ValueError):  # another version, no limit ("max"), or not to be read
            continue
    return None


def _read_number(path: Path, name: str) -> int:
    """Reads the number after a name, in a file with a line for each.

    Raises:
        OSError: the file, or the name in it, is missing.
    """
    found = re.search(rf"^{name}:?\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{path} has no {name}")
    return int(found[1])
