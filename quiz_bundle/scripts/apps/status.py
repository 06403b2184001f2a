"""Exit statuses: the only module that sets them, called from the ``run`` lists alone.

``monai.bundle run`` re-raises what goes wrong inside its own errors; a user's mistake should end in one line and
status 1, an unexpected error in its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType

from ..core.errors import input_error
from ..core.options import as_bool
from .cases import told
from .workers import Worker

FAILED, NOT_ACCEPTED = 1, 3


def tell_input_errors(anonymous: object = False, paths: Mapping[str, object] | None = None, strict: object = False) -> None:
    """From here on an ``InputError``, wherever in a chain of causes, ends the program with its one line and status 1.

    Args:
        anonymous: name inputs by their roles in that line.
        paths: role and path of each input, for ``anonymous``.
        strict: looked at only when all is done, so checked here, before anything is written.

    Raises:
        InputError: ``anonymous`` or ``strict`` is neither true nor false.
    """
    usual = sys.excepthook
    hidden = False

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause = input_error(error)
        if cause is None:
            usual(kind, error, trace)
        else:
            sys.stderr.write(f"{told(cause, (paths or {}) if hidden else None)}\n")

    sys.excepthook = hook
    hidden = as_bool("anonymous", anonymous)
    as_bool("strict", strict)


def finish(records: Sequence[Mapping[str, object]], strict: object = False) -> None:
    """End with status 1 if a case failed, with 3 if ``strict`` and a registration was not accepted."""
    failed = [record for record in records if record["status"] == "failed"]
    if failed:
        if Worker.this().number == 0:  # all of several processes know of it
            sys.stderr.write("".join(f"{record['name']}: {record['message']}\n" for record in failed))
        raise SystemExit(FAILED)
    if as_bool("strict", strict) and not all(record["accepted"] for record in records):
        raise SystemExit(NOT_ACCEPTED)
