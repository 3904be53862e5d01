"""How what went wrong is told to the person, in one place. Needs no gradio."""

from __future__ import annotations

import functools
import logging
import re
import secrets
from collections.abc import Callable

_log = logging.getLogger(__name__)
# A path of this server in a message: everything up to its last part is left out. Not a part of an address (https://).
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^\s/'\"]+/)+(?=[^\s/'\"])")


def message(error: Exception) -> str:
    """What a person is told.

    A ValueError is raised on purpose, with a message for people. Anything else, its subclasses included (a codec's, a
    JSON reader's), is unexpected: it goes to the log, and the person is told under which number.
    """
    if type(error) is ValueError:
        return without_folders(str(error))
    incident = secrets.token_hex(4)
    _log.error("unexpected error %s", incident, exc_info=error)
    return f"This went wrong. It is logged as {incident}; please try again, or report that number."


def without_folders(text: str) -> str:
    """The same text, with the names of files but not the folders that they are in."""
    return _FOLDERS.sub("", text)


def answer_errors(function: Callable) -> Callable:
    """A function that the page's scripts call, which answers ``{"error": message}`` instead of raising."""

    @functools.wraps(function)
    def answering(request):
        try:
            return function(request)
        except Exception as error:
            return {"error": message(error)}

    return answering
