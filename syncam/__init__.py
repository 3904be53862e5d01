"""SynCam Studio: one prompt, several cameras, one moment in time."""

__version__ = "0.1.0"
