"""Gradio's own parts in the colours of ``studio.css``."""

from __future__ import annotations

import gradio as gr

COLOURS = {
    "body_background_fill": "var(--paper)",
    "block_background_fill": "transparent",
    "block_label_text_color": "var(--soft)",
    "block_title_text_color": "var(--soft)",
    "block_info_text_color": "var(--soft)",
    "body_text_color": "var(--ink)",
    "input_background_fill": "transparent",
    "input_background_fill_focus": "transparent",
    "input_border_color": "var(--line)",
    "button_primary_background_fill": "var(--ink)",
    "button_primary_background_fill_hover": "var(--accent)",
    "button_primary_border_color": "var(--ink)",
    "button_primary_text_color": "var(--panel)",
    "button_cancel_background_fill": "var(--warn)",
    "button_cancel_text_color": "var(--panel)",
    "slider_color": "var(--soft)",
}
SIZES = {
    "block_border_width": "0px",
    "block_padding": "0px",
    "input_border_width": "1px",
    "button_large_radius": "10px",
}


def theme() -> gr.themes.Base:
    """The theme of the page; light and dark are told apart by the variables in the CSS."""
    fonts, mono = ["ui-sans-serif", "system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    dark = {f"{name}_dark": value for name, value in COLOURS.items()}
    base = gr.themes.Base(primary_hue="indigo", neutral_hue="zinc", font=fonts, font_mono=mono)
    return base.set(**COLOURS, **dark, **SIZES)
