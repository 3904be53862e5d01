"""How what is wrong with a request is told to the person: in one place."""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable

import gradio as gr


def message(error: Exception) -> gr.Error:
    """A toast. Gradio shows a message as HTML; it may quote what somebody typed."""
    return gr.Error(html.escape(str(error), quote=False), print_exception=False)


def report_errors(handler: Callable) -> Callable:
    """The same handler, whose ValueErrors are told to the person."""
    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def reporting(*args, **kwargs):
            try:
                async for value in handler(*args, **kwargs):
                    yield value
            except ValueError as error:
                raise message(error) from error

    else:

        @functools.wraps(handler)
        def reporting(*args, **kwargs):
            try:
                return handler(*args, **kwargs)
            except ValueError as error:
                raise message(error) from error

    return reporting
