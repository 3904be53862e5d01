"""Cameras in other people's files <-> our cameras: one reader and one writer for all formats.

Every reader ends in our one convention (see ``cameras``) and every writer starts from it. Files are recognised by
what is in them, never by their name. A file is hostile until read: its size is checked before it is parsed, numbers
must be finite numbers, matrices must be rotations, and whatever is wrong is said in one line that names the camera.

``registry`` lists the formats; each is a module, and adding one is a module and a row. ``reading`` and ``writing`` are
what programs call; ``file_content`` opens files, ``folders`` finds them, ``parsing`` checks numbers and matrices,
``camera_file`` is what reading gives, ``format_type`` what a row of the registry has, ``grouping`` says who took a
picture, ``lens_models`` knows lenses that are no pinhole.
"""

from syncam.rig_formats.camera_file import CameraFile, CameraList
from syncam.rig_formats.parsing import strict_json
from syncam.rig_formats.preset import from_document, to_document
from syncam.rig_formats.reading import PRESETS_FOLDER, list_presets, parse_cameras, read_cameras, read_rig
from syncam.rig_formats.registry import EXTENSIONS, FILE_NAMES, FORMATS, format_table
from syncam.rig_formats.syncamvideo import V2_FRAMES
from syncam.rig_formats.writing import (
    FRAME_PATH,
    VIDEO_PATH,
    changes_on_export,
    export_cameras,
    format_of_name,
    write_cameras,
)

__all__ = [
    "EXTENSIONS",
    "FILE_NAMES",
    "FORMATS",
    "FRAME_PATH",
    "PRESETS_FOLDER",
    "V2_FRAMES",
    "VIDEO_PATH",
    "CameraFile",
    "CameraList",
    "changes_on_export",
    "export_cameras",
    "format_of_name",
    "format_table",
    "from_document",
    "list_presets",
    "parse_cameras",
    "read_cameras",
    "read_rig",
    "strict_json",
    "to_document",
    "write_cameras",
]
