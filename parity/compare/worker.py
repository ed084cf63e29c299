"""A process that computes with one wing: JSON lines in, files of arrays out.

`wings.COMMAND` starts it. The first line says which wing, precision and device, the subject's file,
and a patch: a "module:function" to call before anything runs, with which tests break a wing on
purpose. Each line after it is {"task": a name of `tasks.TASKS`, "path": of the answer, "options":
{...}}; the reply to each is one line, {} or {"error": ..., "kind": ...}. The wing is the only one
imported.
"""

import importlib
import json
import os
import sys
import traceback
from typing import Any

from parity.compare import subject, tasks
from parity.spec import TwincapsError, gist
from parity.weights import save_arrays

LONGEST = 300  # letters of a message; a compiler's can have thousands


def begin(
    wing: str, precision: str, device: str, subject_path: str, patch: str | None
) -> tasks.Wing:
    """The wing that a first line asks for."""
    instance = tasks.Wing(wing, precision, device, subject.load(subject_path))
    if patch is not None:
        module, _, function = patch.partition(":")
        getattr(importlib.import_module(module), function)()
    return instance


def perform(wing: tasks.Wing, task: str, path: str, options: dict[str, Any]) -> None:
    """Runs one task and writes its answer."""
    save_arrays(path, *tasks.TASKS[task](wing, **options))


def main() -> None:
    """Answers the requests on standard input until it ends."""
    # What a framework prints must not be taken for a reply.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    wing: tasks.Wing | None = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if wing is None:
                wing = begin(**request)
            else:
                perform(wing, **request)
            reply = {}
        except Exception as error:  # whatever a wing, or a patch of it, may raise
            reply = described(error)
        print(json.dumps(reply), file=replies)


def described(error: Exception) -> dict[str, str]:
    """An error as a reply: its kind and first lines; the traceback goes to the log."""
    traceback.print_exception(error)
    if isinstance(error, ModuleNotFoundError):
        return {"kind": "missing", "error": str(error.name).partition(".")[0]}
    if isinstance(error, TwincapsError):
        return {"kind": "mistake", "error": str(error)[:LONGEST]}
    return {"kind": type(error).__name__, "error": gist(error)[:LONGEST]}
