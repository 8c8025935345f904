"""Available memory is the least of the machine's and of all groups around the process; growth can be limited."""

import mmap

import pytest

from convmae_det import memory

MIB = 2**20


@pytest.fixture
def system(tmp_path, monkeypatch):
    """``system(groups, {file: text})``: from now on the machine has 1000 MiB available, and these control groups."""
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "self")
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "cgroup")
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text(f"MemTotal:  9999999 kB\nMemFree:  5 kB\nMemAvailable:  {1000 * 1024} kB\n")

    def write(groups, files):
        (tmp_path / "self/cgroup").write_text(groups)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text))

    return write


@pytest.mark.skipif(not memory.is_told(), reason="the system doesn't tell")
def test_limits_of_the_process(monkeypatch):
    import resource

    limits = {resource.RLIMIT_AS: resource.RLIM_INFINITY, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    assert memory.read_own_limit() is None
    limits[resource.RLIMIT_AS] = 2**60
    assert 2**59 < memory.read_own_limit() < 2**60
    limits[resource.RLIMIT_DATA] = 1
    assert memory.read_own_limit() == 0


def test_without_groups_it_is_the_machines(system):
    assert memory.read_available() == 1000 * MIB
    system("0::/\n", {})
    assert memory.read_available() == 1000 * MIB


@pytest.mark.parametrize("folder", ["", "user/job/", "user/"])
def test_a_group_of_version_2_around_the_process_limits_it(system, folder):
    files = {"memory.max": 300 * MIB, "memory.current": 200 * MIB, "memory.stat": f"anon 7\ninactive_file {50 * MIB}\n"}
    system("0::/user/job\n", {"user/job/memory.max": "max\n"} | {folder + name: text for name, text in files.items()})
    assert memory.read_available() == 150 * MIB


def test_a_group_of_version_1_limits_it_where_its_path_is_only_the_machines(system):
    stat = f"inactive_file 7\ntotal_inactive_file {30 * MIB}\n"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    files = zip(names, (300 * MIB, 320 * MIB, stat), strict=True)
    system("5:cpu:/a\n4:memory:/docker/12ab\n0::/\n", {f"memory/{name}": text for name, text in files})
    assert memory.read_available() == 10 * MIB


def test_a_group_that_is_full_leaves_nothing(system):
    files = {"memory.max": 300 * MIB, "memory.current": 301 * MIB, "memory.stat": "inactive_file 0\n"}
    system("0::/\n", files)
    assert memory.read_available() == 0


def test_a_system_without_these_files_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "none")
    assert memory.read_available() is None
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    assert not memory.is_told()
    (tmp_path / "status").write_text("VmRSS:\t   5 kB\nVmData:\t   5 kB\n")
    assert not memory.is_told()
    (tmp_path / "status").write_text("VmHWM:\t   5 kB\nVmRSS:\t   5 kB\nVmData:\t   5 kB\nVmSize:\t   5 kB\n")
    assert memory.is_told()


def take(size):
    """Maps so many bytes for this process alone, since the allocator might take them from what it keeps free."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


@pytest.mark.skipif(not memory.is_told(), reason="the system doesn't tell")
def test_growth_is_measured():
    memory.forget_peak()
    before = memory.read_resident()
    with take(64 * MIB) as taken:
        taken.write(bytes(64 * MIB))
    assert memory.read_resident_peak() - before > 60 * MIB


@pytest.mark.skipif(not memory.is_told(), reason="the system doesn't tell")
def test_growth_is_limited():
    with memory.limit_growth(16 * MIB), pytest.raises(OSError) as failure:
        take(128 * MIB)
    assert memory.is_exhausted(failure.value)
    take(128 * MIB).close()


def test_controllers_of_version_1_that_are_mounted_together(system):
    system("3:cpu,memory:/job\n", {"memory/job/memory.limit_in_bytes": 300 * MIB})
    room = {"memory/job/memory.usage_in_bytes": 200 * MIB, "memory/job/memory.stat": "total_inactive_file 0\n"}
    system("3:cpu,memory:/job\n", room)
    assert memory.read_available() == 100 * MIB
