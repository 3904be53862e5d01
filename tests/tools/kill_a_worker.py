"""Run by hand: two processes generate one dataset, one is killed in the middle and started again; then one alone.

Says whether every scene was made exactly once and whether all files are the same, bit for bit. Minutes, not seconds:

    python -m tests.tools.kill_a_worker FOLDER [--num-prompts 6]
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

PROMPTS = [
    f"a {size} {colour} {shape} {motion}"
    for size, colour, shape, motion in zip(
        ("big", "small", "big", "small", "big", "small", "big", "small"),
        ("red", "green", "blue", "yellow", "pink", "orange", "cyan", "purple"),
        ("ball", "cube", "cone", "cylinder", "ball", "cube", "cone", "cylinder"),
        ("bouncing", "spinning", "sliding", "circling", "resting", "bouncing", "spinning", "sliding"),
        strict=True,
    )
]


def start(folder: Path, log: Path, prompts: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        "-u",
        "-m",
        "syncam",
        "dataset",
        "generate",
        folder,
        "--prompts",
        prompts,
        "--rig",
        "arc4",
    ]
    return subprocess.Popen([*command, "--rig", "stereo"], stdout=log.open("w"), stderr=subprocess.STDOUT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num-prompts", type=int, default=6, choices=range(1, len(PROMPTS) + 1))
    options = parser.parse_args()
    options.folder.mkdir(parents=True)  # a new one
    prompts, together, alone = (options.folder / name for name in ("prompts.txt", "together", "alone"))
    prompts.write_text("\n".join(PROMPTS[: options.num_prompts]))
    logs = [options.folder / f"{name}.log" for name in ("first", "victim", "again", "alone")]

    first, victim = start(together, logs[0], prompts), start(together, logs[1], prompts)
    # Killed while it holds a claim, after it has finished something.
    while not logs[1].read_text().count("train-scene"):
        time.sleep(0.05)
    before = logs[1].read_text().count("train-scene")
    time.sleep(0.7)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    claims = sorted(path.name for path in (together / ".claims").iterdir())
    print(f"killed after {before} scenes; claims at that moment: {', '.join(claims)}")
    again = start(together, logs[2], prompts)
    print(
        f"exit codes {first.wait()} and {again.wait()}; then one process alone: {start(alone, logs[3], prompts).wait()}"
    )

    made = [
        line.split(":")[0] for log in logs[:3] for line in log.read_text().splitlines() if line.startswith("train-")
    ]
    wanted = [f"train-scene{n}" for n in range(1, 2 * options.num_prompts + 1)]
    print("by first, victim, again:", [log.read_text().count("train-scene") for log in logs[:3]])
    files = {
        root: {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (together, alone)
    }
    once, same = sorted(made) == sorted(wanted), files[together] == files[alone]
    print(f"{len(wanted)} scenes, each made exactly once: {once}; {len(files[alone])} files, all the same: {same}")
    return 0 if once and same else 1


if __name__ == "__main__":
    sys.exit(main())
