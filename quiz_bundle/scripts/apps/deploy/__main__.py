"""``python -m scripts.apps.deploy -i IN -o OUT -m quiz_bundle``, the bundle's folder on PYTHONPATH; see docs/deploy.md."""

from __future__ import annotations

import sys

from monai.deploy.core import parse_args

from ...core.errors import input_error
from .application import RegistrationApplication


def main() -> int:
    """Run the application; a bad input ends in one line and status 1, an unexpected error in its traceback."""
    parse_args()  # the application does so too, but only after the runtime beneath it has answered -h with its own options
    try:
        RegistrationApplication().run()
    except Exception as error:
        cause = input_error(error)
        if cause is None:
            raise
        sys.stderr.write(f"{cause}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
