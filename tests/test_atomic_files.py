"""Files and folders appear whole or not at all."""

import os
import socket
import subprocess
import sys

import pytest

from syncam.atomic_files import atomic_folder, write_atomic


def test_a_file_that_can_not_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    with pytest.raises(OSError):
        write_atomic(tmp_path / "none" / "a.json", b"new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_atomic(path, b"new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o044


def test_a_folder_is_replaced_whole_or_stays_as_it_was(tmp_path):
    target = tmp_path / "deep" / "[a]"
    with atomic_folder(target) as folder:
        (folder / "one").write_text("1")
        assert not target.exists()
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "two").write_text("2")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["one"]
    with atomic_folder(target) as folder:
        (folder / "two").write_text("2")
    assert [path.name for path in target.iterdir()] == ["two"] and list(target.parent.iterdir()) == [target]


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f".a.unfinished-{host}-{pid}-00" for host, pid in ((socket.gethostname(), dead.pid), ("elsewhere", 1))]
    names.append(f".a.unfinished-{socket.gethostname()}-{os.getpid()}-00")
    for name in names:
        (tmp_path / name / "new").mkdir(parents=True)
    with atomic_folder(tmp_path / "a"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[1:], "a"])
