"""Generates a dataset on Ray while its workers are killed, then once more in one process, and compares the files.

Says whether every scene was made and whether all files are the same, bit for bit; fewer kills than asked for, because
the work was over before, are a failure too. Minutes, not seconds:

    python -m tests.tools.kill_a_worker FOLDER [--num-prompts 6] [--kills 10] [--pause 15]
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil

PROMPTS = [
    "a big red ball bouncing",
    "a small green cube spinning",
    "a big blue cone sliding",
    "a small yellow cylinder circling",
    "a big pink ball resting",
    "a small orange cube bouncing",
    "a big cyan cone spinning",
    "a small purple cylinder sliding",
]


def generate(folder: Path, prompts: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "syncam", "dataset", "generate", folder, "--prompts", prompts]
    return subprocess.Popen([*command, "--rig", "arc4", "--rig", "stereo", *options])


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    """The Ray actors that were started by this process and no other."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "ray::_Actor" in child.name()]
    except psutil.NoSuchProcess:
        return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num-prompts", type=int, default=6, choices=range(1, len(PROMPTS) + 1))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--pause", type=float, default=15.0, help="seconds between kills, at most; longer than loading")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)  # a new one
    prompts, together, alone = (options.folder / name for name in ("prompts.txt", "together", "alone"))
    prompts.write_text("\n".join(PROMPTS[: options.num_prompts]))

    process, rng, killed = generate(together, prompts, "--on", "ray", "--num-workers", "2"), random.Random(0), 0
    while process.poll() is None and killed < options.kills:
        time.sleep(rng.uniform(1, options.pause))  # in the middle of loading, of generating, or of writing
        if there := workers(process):
            rng.choice(there).kill()
            killed += 1
    codes = process.wait(), generate(alone, prompts).wait()
    print(f"{killed} workers killed; exit codes on Ray and alone: {codes}")
    files = {
        root: {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (together, alone)
    }
    same = files[together] == files[alone]
    print(f"{2 * options.num_prompts} scenes, {len(files[alone])} files, all the same: {same}")
    return 0 if same and codes == (0, 0) and killed == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
