"""Where the cameras stand: metres, degrees, matrices. Needs nothing but numpy.

World: right-handed, z up, metres, origin at the scene's centre, which every orbit camera looks at.
Camera: OpenCV axes (x right, y down, z forward). Matrices are named ``x2y`` and compose so that inner names meet.

``poses`` matrices - ``lenses`` pinholes and others - ``kinds`` orbit, free and moving cameras - ``rig`` a shot's -
``templates`` moves by name - ``between`` cameras between cameras.
"""

from syncam.cameras.between import camera_between, is_ring, with_cameras_between
from syncam.cameras.kinds import (
    AZIMUTH_RANGE_DEG,
    DISTANCE_RANGE_M,
    EASINGS,
    ELEVATION_RANGE_DEG,
    MAX_POSITION_M,
    Camera,
    FreeCamera,
    MovingCamera,
    OrbitCamera,
)
from syncam.cameras.lenses import Intrinsics, LensModel
from syncam.cameras.poses import (
    interpolate_poses,
    look_at_centre,
    quaternions_of,
    relative_to_first,
    rotations_of,
)
from syncam.cameras.rig import MAX_CAMERAS, MAX_VIEWS, Rig
from syncam.cameras.templates import TEMPLATES, Template, apply_template

__all__ = [
    "AZIMUTH_RANGE_DEG",
    "DISTANCE_RANGE_M",
    "EASINGS",
    "ELEVATION_RANGE_DEG",
    "MAX_CAMERAS",
    "MAX_POSITION_M",
    "MAX_VIEWS",
    "Camera",
    "FreeCamera",
    "Intrinsics",
    "LensModel",
    "MovingCamera",
    "OrbitCamera",
    "Rig",
    "TEMPLATES",
    "Template",
    "apply_template",
    "camera_between",
    "interpolate_poses",
    "is_ring",
    "look_at_centre",
    "quaternions_of",
    "relative_to_first",
    "rotations_of",
    "with_cameras_between",
]
