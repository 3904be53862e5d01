"""A line per job in the log: what ran, for how long, and how it ended. Not what somebody asked to see."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone

from syncam.studio.jobs import Job

_log = logging.getLogger(__name__)


def log_job(job: Job, seconds: float) -> None:
    """``seconds``: from when it was taken from the queue."""
    shot = job.shot
    facts = {
        "id": job.id,
        "model": job.model,
        "views": len(shot.rig),
        "size": f"{shot.width}x{shot.height}",
        "frames": shot.num_frames,
        "steps": shot.num_inference_steps,
        "seconds": round(seconds, 2),
        "outcome": job.state,
    }
    _log.info(" ".join(f"{name}={value}" for name, value in facts.items()), extra={"job": facts})


class JsonFormatter(logging.Formatter):
    """Each line one JSON object: time, level, logger and message, and for a job its facts."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage()} | getattr(record, "job", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(as_json: bool) -> None:
    """Sends what this program logs to stderr, from ``info`` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("syncam")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
