"""Damages good camera files and reads them: ``python tests/tools/fuzz.py [NUMBER] [SEED]``.

Whatever is in a file, reading ends in cameras or in a ValueError of one line; anything else is printed with the file.
"""

from __future__ import annotations

import io
import json
import random
import re
import sys
import warnings
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from syncam.cameras import Rig
from syncam.rig_formats import FILE_NAMES, export_cameras, parse_cameras, read_cameras

CASES = Path(__file__).resolve().parents[1] / "data" / "rigs"
METASHAPE = b"""<document><chunk><sensors><sensor id="0" type="frame"><resolution width="640" height="480"/>
<calibration><f>500</f><cx>1</cx></calibration></sensor></sensors>
<transform><rotation>1 0 0 0 1 0 0 0 1</rotation></transform><cameras>
<camera id="0" sensor_id="0" label="a"><transform>1 0 0 0 0 1 0 0 0 0 1 4 0 0 0 1</transform></camera></cameras></chunk>
</document>"""
MORE = [
    METASHAPE,
    b"# Bundle file v0.3\n1 0\n500 0 0\n1 0 0\n0 1 0\n0 0 1\n0 0 -4\n",
    b"#name,x,y,alt,heading,pitch,roll,f,px,py\na.jpg,1,2,3,40,90,0,18,0,0\n",
    b'[{"position": [1, 2, 3], "quaternion": [0, 0, 0, 1]}, {"R": [[1,0,0],[0,1,0],[0,0,1]], "T": [[1], [2], [3]]}]',
    b'[{"wxyz": [1, 0, 0, 0], "t": [1, 2, 3], "K": [[0.8, 0, 0.5], [0, 1.4, 0.5], [0, 0, 1]], "W": 64, "H": 48}]',
    b'{"w": 64, "h": 48, "FovX": 1.1, "camera": {"fl_x": 50, "intrinsics": {"cx": 9}}, "frames": ['
    b'{"file_path": "l_1.png", "time": 0, "transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,4],[0,0,0,1]]}, '
    b'{"file_path": "r_1.png", "time": 1, "fov": 40, "transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,5],[0,0,0,1]]}]}',
    b"#timestamp, p_x, p_y, p_z, q_w, q_x, q_y, q_z\n0, 1, 2, 3, 1, 0, 0, 0\n1, 1, 2, 4, 1, 0, 0, 0\n",
]
# What programs and people put where something else belongs.
WORDS = (
    *(
        b"NaN",
        b"-Infinity",
        b"1e400",
        b"1" * 400,
        b"0",
        b"-1",
        b"1e308",
        b"2147483648",
        b"18446744073709551615",
        b"null",
    ),
    *(
        b'""',
        b"[]",
        b"{}",
        b"true",
        b'"' + b"x" * 300 + b'"',
        b'"\\ud800"',
        b"\xff\xfe",
        b"\0",
        b"[[[[]]]]",
        b"\xf0\x9f\x98\x80",
    ),
)

VALUES = (None, True, -1, 0, 1e308, 10**400, float("nan"), "", "x" * 300, "\ud800", [], {}, [[]], {"a": 1})


def seeds() -> list[bytes]:
    """Good files of every format."""
    files = [path.read_bytes() for path in sorted(CASES.rglob("*")) if path.is_file()] + MORE
    rig = Rig((*read_cameras("moving_arc").cameras, *read_cameras("3,0,0;4,20,50").cameras))
    still = Rig(read_cameras("hemi36").cameras[:4])
    for to in FILE_NAMES:
        cameras = still if to == "syncamvideo-v1" else rig
        files += [data for data in export_cameras(cameras, to, num_frames=3).values() if data]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("sparse/0/cameras.txt", (CASES / "c1_one_line" / "cameras.txt").read_bytes())
        archive.writestr("sparse/0/images.txt", (CASES / "c1_one_line" / "images.txt").read_bytes())
    return [*files, buffer.getvalue()]


def damaged(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """The file with one to three things done to it that happen to files, or that somebody does to them."""
    for _ in range(rng.randint(1, 3)):
        is_json, is_text = data[:1] in (b"{", b"["), b"\0" not in data and data[:1] != b"\x93"
        if is_json and rng.random() < 0.6:
            data = _with_another_value(data, rng)
        elif is_text and rng.random() < 0.8:
            data = _with_another_number(data, rng) if rng.random() < 0.6 else _with_other_lines(data, rng)
        else:
            data = _with_other_bytes(data, rng, others)
    return data


def _with_another_value(data: bytes, rng: random.Random) -> bytes:
    """JSON in which one value is replaced, left out, wrapped or said twice."""
    try:
        document = json.loads(data)
    except ValueError:
        return _with_another_number(data, rng)
    places = [(document, key) for key in _keys(document)]
    for container, key in places:  # grows while it is read: all places, the outer ones first
        places += [(container[key], inner) for inner in _keys(container[key])][:40]
    if places:
        container, key = rng.choice(places)
        value = container[key]
        other = rng.choice(
            [None, True, -1, 0, 1e308, 10**400, float("nan"), "", "x" * 300, "\ud800", [], {}, [[]], {"a": 1}]
        )
        container[key] = rng.choice([other, [value], {"w": value}, [value, value], str(value)[:200]])
        if rng.random() < 0.2:
            del container[key]
    try:
        return json.dumps(document).encode()
    except ValueError:  # a number of 400 digits
        return data


def _keys(value: object) -> list:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []


def _with_another_number(data: bytes, rng: random.Random) -> bytes:
    numbers = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?", data[:100_000]))
    if not numbers:
        return data
    match = rng.choice(numbers)
    return data[: match.start()] + rng.choice(WORDS) + data[match.end() :]


def _with_other_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    line = rng.randrange(len(lines))
    words = lines[line].split(b" ")
    word = rng.randrange(len(words))
    other = rng.choice([b"", lines[line] + b" 1", b" ".join(words[:word]), b" ".join(words[:word] + words[word + 1 :])])
    lines[line : line + 1] = rng.choice([[other], [lines[line]] * 2, [], [rng.choice(lines)]])
    return b"\n".join(lines)


def _with_other_bytes(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    count = rng.choice([2**63, 2**64 - 1, 2**32, 2**31, 0, 2**20]).to_bytes(8, "little")
    other = rng.choice(others)
    return rng.choice(
        [
            data[:at],
            data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            data[: at // 4 * 4] + count + data[at // 4 * 4 + 8 :],  # where binary files have them
            data[:at] + data[at + rng.randrange(200) :],
            data[:at] + other[rng.randrange(len(other)) :][:2000],
        ]
    )


def surprises(number: int, seed: int) -> list[tuple[str, bytes]]:
    """What went wrong other than by a ValueError of one line, and the file that did it."""
    rng, files, found = random.Random(seed), seeds(), []
    small = [data for data in files if len(data) < 20_000]
    for _ in range(number):
        data = damaged(rng.choice(small), rng, small)
        try:
            parse_cameras(data)
        except ValueError as error:
            if len(str(error).splitlines()) != 1 or len(str(error)) > 600:
                found.append((f"not one line: {error!r:.200}", data))
        except BaseException as error:
            found.append((f"{type(error).__name__}: {error!s:.200}", data))
    return found


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    warnings.simplefilter("ignore")
    kinds = {}
    for what, file in surprises(count, int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        kinds.setdefault(what[:80], file)
    for what, file in kinds.items():
        print(f"{what}\n    {file[:300]!r}")
    print(f"{count} files read, {len(kinds)} kinds of surprises")
    sys.exit(bool(kinds))
