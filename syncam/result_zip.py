"""A saved result as one zip that programs for 3D and 4D reconstruction read."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from syncam.atomic_files import atomic_file
from syncam.points import to_ply, triangulated_points
from syncam.result import MultiViewVideo
from syncam.rig_formats import FRAME_PATH, export_cameras
from syncam.rig_formats.parsing import json_lines

README = """\
Metres; world right-handed, z up; the cameras look at the origin.

nerfstudio, first moment:  ns-train splatfacto --data THIS_FOLDER
nerfstudio, all of time:   ns-train METHOD --data THIS_FOLDER dnerf-data
4DGaussians:               python train.py -s THIS_FOLDER   (square pictures only)
COLMAP, 3D Gaussian splatting, first moment:  THIS_FOLDER/colmap
Blender:                   open cameras.py in the Scripting workspace and run it
"""


def zip_result(folder: Path | str) -> Path:
    """Puts a saved result into one zip in its folder, ready for 3D and 4D reconstruction.

    In it: the videos and the recipe; every frame as PNG; the first moment for nerfstudio (``transforms.json``) and, in
    a folder of its own, as a COLMAP model with its pictures; all of time as D-NeRF's ``transforms_*.json``, which
    nerfstudio and 4DGaussians read (the latter wants square pictures); points to start from, where the views agree on
    any; cameras as SynCamVideo v2 and for Blender. ``README.txt`` says which program is given what.
    """
    folder = Path(folder)
    video = MultiViewVideo.load(folder)
    cameras = video.cameras()
    options: Any = {"num_frames": video.num_frames, "fps": video.fps}
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".mp4", ".webp")}
    files["recipe.json"] = (folder / "recipe.json").read_bytes()
    files |= export_cameras(cameras, "syncamvideo-v2", **options)
    files |= export_cameras(cameras, "blender", **options)
    files |= export_cameras(cameras, "dnerf", **options)
    files |= {f"transforms_{split}.json": files["transforms_train.json"] for split in ("val", "test")}
    points, colours = triangulated_points(video.frames[:, 0], video.c2w()[:, 0], video.lens())
    if len(points):
        # The same points under the names that nerfstudio (and others) and 4DGaussians look for.
        files |= dict.fromkeys(("points3d.ply", "fused.ply"), to_ply(points, colours))
    (transforms,) = export_cameras(cameras, "nerfstudio", num_frames=1, fps=video.fps, image_path=FRAME_PATH).values()
    files["transforms.json"] = _for_nerfstudio(transforms, "points3d.ply" if len(points) else "")
    # Not at the top: where 4DGaussians finds a folder "sparse", it looks at nothing else.
    pictures = "view_{view:02d}.png"
    model = export_cameras(cameras, "colmap", num_frames=1, image_path=pictures, points=(points, colours))
    files |= {f"colmap/sparse/0/{name}": data for name, data in model.items()}
    files |= {f"colmap/images/view_{view:02d}.png": _png(frames[0]) for view, frames in enumerate(video.frames, 1)}
    files["README.txt"] = README.encode()
    target = folder / "result.zip"
    with atomic_file(target) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for view, frames in enumerate(video.frames, 1):
            for number, frame in enumerate(frames, 1):
                # Stored: a PNG is compressed already.
                archive.writestr(FRAME_PATH.format(view=view, frame=number), _png(frame), zipfile.ZIP_STORED)
    return target


def _for_nerfstudio(transforms: bytes, points: str) -> bytes:
    """Names the points, and the pictures of each split: of so few, its own split leaves none to look at."""
    document = json.loads(transforms)
    # Said, because it believes of a folder with a COLMAP model in it that its axes were exchanged.
    document["applied_transform"] = np.eye(3, 4).tolist()
    paths = [frame["file_path"] for frame in document["frames"]]
    document |= {f"{split}_filenames": paths for split in ("train", "val", "test")}
    return json_lines(document | ({"ply_file_path": points} if points else {}), "frames").encode()


def _png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "png")
    return buffer.getvalue()
