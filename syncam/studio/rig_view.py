"""The cameras' part of the page: presets, 3D view, timeline, camera rows and viewfinder, as one gradio component.

The rig is edited and drawn in the page, at once (``static/rig_view.js``); its value is the rig's JSON document, which
the server reads and checks like any other rig file.
"""

from __future__ import annotations

import base64
import io
import zipfile

import gradio as gr

from syncam.cameras import MAX_VIEWS, TEMPLATES, Intrinsics, Rig, apply_template
from syncam.model_card import ModelCard
from syncam.rig_formats import (
    EXTENSIONS,
    FILE_NAMES,
    CameraFile,
    changes_on_export,
    export_cameras,
    list_presets,
    to_document,
)
from syncam.rig_plot import CAMERA_COLOURS
from syncam.studio.errors import answer_errors
from syncam.studio.scripts import component_script
from syncam.studio.settings import rig_from

FEATURED_PRESETS = ("arc4", "rise4", "step_back4", "combo", "stereo", "corners", "crane5", "bullet8", "orbit8")
GROUND_Z_M = -0.6  # of the embedded model's world, which is not imported here: it needs torch
# How far sliders go: where dragging makes sense. Typed numbers may go further.
SLIDER_RANGES = {"distance_m": (1, 12), "elevation_deg": (-10, 90), "azimuth_deg": (-180, 180)}
# How the page lets cameras travel: a template, and those of its parameters that are not its defaults.
WAYS: dict[str, tuple[str, dict[str, float]]] = {
    "half orbit": ("orbit", {"degrees": 180}),
    **{name: (name, {}) for name in TEMPLATES},
    "dolly out": ("dolly", {"metres": 1.5}),
}


def rig_view(rig: Rig, card: ModelCard, **options) -> gr.HTML:
    """The cameras of the page, whose value is a rig document (``syncam.rig_formats.to_document``).

    ``.input`` fires when a person has changed it. Set to a document of more cameras than a rig can have, it lets the
    person pick; set to what :func:`imported` gives, it says what was read and asks what it can't know.
    """

    @answer_errors
    def export_for_page(request: list) -> dict:
        """What the page's export menu downloads: ``[document, format]`` -> name, contents, and what the format does not
        hold; or what is wrong."""
        if not isinstance(request, list) or len(request) != 2:
            raise ValueError("cameras are exported by a rig and a format")
        document, to = request
        rig = rig_from(document)
        name, data = camera_file(rig, to, card)
        return {"name": name, "base64": base64.b64encode(data).decode("ascii"), "changes": changes_on_export(rig, to)}

    return gr.HTML(
        to_document(rig),
        html_template='<div class="syn-rig"></div>',
        js_on_load=component_script("rig_view.js", "show_error"),
        apply_default_css=False,
        server_functions=[export_for_page, set_in_motion],
        presets=_presets(),
        colours=CAMERA_COLOURS,
        groundZ=GROUND_Z_M,
        ranges=SLIDER_RANGES,
        formats=list(FILE_NAMES),
        extensions=EXTENSIONS,
        maxViews=MAX_VIEWS,
        ways={way: TEMPLATES[name].description for way, (name, _) in WAYS.items()},
        **view_of(card),
        **options,
    )


def view_of(card: ModelCard) -> dict:
    """What of this depends on the model: its lens, the range that it has seen, whether view 1 is the reference."""
    return {
        "lens": vars(Intrinsics.from_hfov(card.hfov_deg, card.width, card.height)),
        "trained": {"distance_m": card.trained.distance_m, "elevation_deg": card.trained.elevation_deg},
        "relative": card.relative_poses,
    }


def camera_file(rig: Rig, to: str, card: ModelCard) -> tuple[str, bytes]:
    """(name, contents) of the rig in another program's format; several files become one zip.

    Where a format has no paths, moving cameras are written as they are in each frame that the model makes.
    """
    if not isinstance(to, str):
        raise ValueError(f"format must be text, got {type(to).__name__}")
    moving = any(camera.moves for camera in rig.cameras)
    files = export_cameras(rig, to, num_frames=card.num_frames if moving else 1, fps=card.fps)
    if len(files) == 1:
        return next(iter(files.items()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return f"{to}.zip", buffer.getvalue()


@answer_errors
def set_in_motion(request: list) -> dict:
    """``[document, numbers, way]`` -> the document with the cameras of these numbers (from 0) travelling that way."""
    document, numbers, way = request
    name, parameters = WAYS[way]
    cameras = list(rig_from(document).cameras)
    for number in numbers:
        cameras[number] = apply_template(name, cameras[number], **parameters)
    return to_document(Rig(tuple(cameras)))


def imported(file: CameraFile) -> dict:
    """The cameras of a file as the component's value, with what was assumed (``note``), and the way of the one camera
    that its poses may be (``path``)."""
    path = to_document(file.as_path())["cameras"][0] if file.may_be_a_path else None
    return {**to_document(file), "note": file.note, **({"path": path} if path else {})}


def _presets() -> list[dict]:
    files = list_presets()
    order = [name for name in FEATURED_PRESETS if name in files]
    order += [name for name in files if name not in order]
    return [
        {
            "name": name,
            "title": files[name].title or name,
            "description": files[name].description,
            "featured": name in FEATURED_PRESETS,
            "document": to_document(files[name]),
        }
        for name in order
    ]
