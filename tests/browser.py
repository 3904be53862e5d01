"""The browser that tests and screenshots use: chromium, with WebGL in software so that it needs no graphics card."""

import os
import shutil

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def launch_chromium(playwright):
    """A headless chromium of the machine, or the one that playwright brought.  Raises: playwright's Error if none."""
    arguments = ["--no-sandbox", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    return playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
