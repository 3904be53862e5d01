"""What one visitor of a public page may use. On one's own machine there are no quotas."""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from syncam.units import format_duration


@dataclass(frozen=True)
class Quotas:
    """The limits of a public page. Every refusal says which one it was."""

    waiting_jobs: int = 2  # of a session
    job_seconds: float = 600.0  # by the estimate
    estimates_per_minute: int = 60  # of a session
    uploads_per_hour: int = 30  # of an address
    upload_bytes_per_hour: int = 256 << 20  # of an address
    kept_seconds: float = 24 * 3600.0  # of a result
    kept_bytes: int = 2 << 30  # of all results, the oldest go first; of all files brought or served, as many again

    def require_time(self, seconds: float) -> None:
        """Raises: ValueError if a run would take too long."""
        if seconds > self.job_seconds:
            raise ValueError(
                f"This run would take about {format_duration(seconds)}; on this public page a run may take "
                f"{format_duration(self.job_seconds)}. Try fewer steps, frames or views."
            )


def visitor(request: Any) -> str:
    """By what a ``gr.Request`` is counted: the page's session; for a program, which may have none, its address."""
    if session := getattr(request, "session_hash", None):
        return str(session)
    return client_address(getattr(getattr(request, "request", None), "scope", {}))


def client_address(scope: Mapping[str, Any]) -> str:
    """Where an ASGI request comes from.

    All requests to a Space come from its proxies, which write down whom they came from, each after what stands there
    already. The last one that is no machine of theirs is the visitor: what comes before, anybody may have written.
    """
    addresses = [(scope.get("client") or ("unknown",))[0]]
    if "SPACE_ID" in os.environ:
        headers = [value for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
        addresses = b",".join(headers).decode("latin-1").replace(" ", "").split(",") + addresses
    return next(filter(_is_of_the_internet, reversed(addresses)), addresses[-1])


def _is_of_the_internet(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


class RateLimit:
    """At most so much of something in so many seconds, counted for each key by itself.

    Remembers no more than ``MAX_KEYS`` keys: those that did nothing for longest are forgotten.
    """

    MAX_KEYS = 10_000

    def __init__(self, most: float, seconds: float):
        self.most, self.seconds = most, seconds
        self._used: dict[str, deque[tuple[float, float]]] = {}
        self._lock = threading.Lock()

    def allow(self, key: str, amount: float = 1) -> bool:
        """Counts ``amount`` for the key and returns True, or returns False and counts nothing."""
        now = time.monotonic()
        with self._lock:
            used = self._used.pop(key, deque())
            while used and now - used[0][0] > self.seconds:
                used.popleft()
            allowed = sum(part for _, part in used) + amount <= self.most
            if allowed:
                used.append((now, amount))
            self._used[key] = used  # last in the order of keys: the first is the one that is forgotten
            while len(self._used) > self.MAX_KEYS:
                del self._used[next(iter(self._used))]
        return allowed
