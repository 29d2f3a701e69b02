"""The limits of a container, from trees as the kernel and container runtimes show them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertune.domain.cgroups import Limits, limits

V2 = "29 23 0:26 {root} {at} rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 32 0:29 {root} {at} rw,relatime shared:9 - cgroup cgroup rw,{controllers}\n"
UNLIMITED_V1 = "9223372036854771712"


class Tree:
    """A root folder with the files that tell of control groups."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/self/cgroup", "")
        self.write("proc/self/mountinfo", "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n")

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as out:
            out.write(text)

    def v2(self, group: str, root: str = "/", at: str = "/sys/fs/cgroup") -> None:
        self.write("proc/self/cgroup", f"0::{group}\n")
        self.write("proc/self/mountinfo", V2.format(root=root, at=at))

    def v1(self, controllers: str, group: str, root: str = "/", number: int = 4) -> None:
        self.write("proc/self/cgroup", f"{number}:{controllers}:{group}\n")
        at = f"/sys/fs/cgroup/{controllers}"
        self.write("proc/self/mountinfo", V1.format(root=root, at=at, controllers=controllers))

    @property
    def cores(self) -> float | None:
        return limits(self.root).cores


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_container_of_version_2_has_its_quota_and_its_memory(tree: Tree) -> None:
    tree.v2("/")
    tree.write("sys/fs/cgroup/cpu.max", "150000 100000\n")
    tree.write("sys/fs/cgroup/memory.max", "1073741824\n")
    assert limits(tree.root) == Limits(1.5, 1024**3)


def test_a_service_of_version_2_has_the_quota_of_its_own_group(tree: Tree) -> None:
    tree.v2("/system.slice/tune.service")
    tree.write("sys/fs/cgroup/system.slice/tune.service/cpu.max", "200000 50000")
    assert tree.cores == 4


@pytest.mark.parametrize(
    ("outer", "inner", "cores"), [("200000", "400000", 2), ("400000", "200000", 2), ("max", "max", None)]
)
def test_the_tightest_of_the_groups_around_counts(tree: Tree, outer: str, inner: str, cores: float | None) -> None:
    tree.v2("/a/b/c")
    tree.write("sys/fs/cgroup/a/cpu.max", f"{outer} 100000")
    tree.write("sys/fs/cgroup/a/b/cpu.max", "max 100000")
    tree.write("sys/fs/cgroup/a/b/c/cpu.max", f"{inner} 100000")
    tree.write("sys/fs/cgroup/a/memory.max", "1000")
    tree.write("sys/fs/cgroup/a/b/c/memory.max", "max")
    assert limits(tree.root) == Limits(cores, 1000)


def test_a_group_beside_ours_does_not_count(tree: Tree) -> None:
    tree.v2("/a/b")
    tree.write("sys/fs/cgroup/a/other/cpu.max", "1000 100000")
    assert tree.cores is None


def test_a_container_of_version_1_whose_mount_begins_at_its_own_group(tree: Tree) -> None:
    """Docker without a cgroup namespace: the path is the host's, and the mount point shows our group."""
    tree.v1("cpu,cpuacct", "/docker/abc", root="/docker/abc")
    tree.v1("memory", "/docker/abc", root="/docker/abc", number=7)
    tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n")
    tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{UNLIMITED_V1}\n")
    found = limits(tree.root)
    assert found.cores == 0.5 and found.memory_bytes and found.memory_bytes > 2**60


def test_version_1_without_a_quota_has_none_and_the_group_around_it_counts(tree: Tree) -> None:
    tree.v1("cpu", "/outer/inner")
    for folder, quota in (("outer/inner", "-1"), ("outer", "300000"), ("", "-1")):
        tree.write(f"sys/fs/cgroup/cpu/{folder}/cpu.cfs_quota_us", quota)
        tree.write(f"sys/fs/cgroup/cpu/{folder}/cpu.cfs_period_us", "100000")
    assert tree.cores == 3


def test_both_versions_beside_each_other(tree: Tree) -> None:
    tree.v1("cpu", "/x")
    tree.v2("/y", at="/sys/fs/cgroup/unified")
    tree.write("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "200000")
    tree.write("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000")
    tree.write("sys/fs/cgroup/unified/y/memory.max", "4096")
    assert limits(tree.root) == Limits(2, 4096)


def test_a_cpuset_is_no_quota(tree: Tree) -> None:
    tree.v1("cpuset", "/x")
    tree.write("sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us", "200000")
    assert tree.cores is None


@pytest.mark.parametrize("group", ["/../other", "/somewhere/else", "/"])
def test_a_group_outside_of_what_is_mounted_leaves_what_is_mounted(tree: Tree, group: str) -> None:
    tree.v2(group, root="/kubepods/pod1")
    tree.write("sys/fs/cgroup/cpu.max", "100000 100000")
    tree.write("sys/fs/other/cpu.max", "1 100000")
    assert tree.cores == 1


def test_a_mount_point_with_a_blank_is_found(tree: Tree) -> None:
    tree.v2("/", at="/mnt/control\\040groups")
    tree.write("mnt/control groups/cpu.max", "100000")
    assert tree.cores == 1, "a quota alone is of a period of 100 ms"


@pytest.mark.parametrize("hidden", ["mountinfo", "cgroup"])
def test_what_is_hidden_is_looked_for_where_it_usually_is(tree: Tree, hidden: str) -> None:
    tree.v2("/")
    (tree.root / "proc/self" / hidden).unlink()
    tree.write("sys/fs/cgroup/cpu.max", "250000 100000")
    assert tree.cores == 2.5


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert limits(tmp_path) == Limits()


@pytest.mark.parametrize(
    "text", ["", "max", "-1", "0 100000", "100000 0", "many 100000", "1e5 100000", "\xff", "9" * 5000]
)
def test_what_is_no_quota_limits_nothing(tree: Tree, text: str) -> None:
    tree.v2("/")
    tree.write("sys/fs/cgroup/cpu.max", text)
    tree.write("sys/fs/cgroup/memory.max", text)
    assert limits(tree.root) in (Limits(), Limits(memory_bytes=100000))


@given(st.text(), st.text(), st.text())
def test_any_text_is_read(tmp_path_factory: pytest.TempPathFactory, groups: str, mounts: str, quota: str) -> None:
    root = tmp_path_factory.mktemp("tree")
    for name, text in (("proc/self/cgroup", groups), ("proc/self/mountinfo", mounts), ("sys/fs/cgroup/cpu.max", quota)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert isinstance(limits(root), Limits)
