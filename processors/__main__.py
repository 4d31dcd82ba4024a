"""`python -m processors [detect|extract|infer]`: one worker; without a stage, all of them fused."""

import sys

from callscope import lifetime, logs
from callscope.config import settings
from callscope.errors import CallscopeError
from processors.app import run
from processors.topology import STAGES


def main() -> None:
    """Run the worker that the command line names, with the settings in force."""
    stage = sys.argv[1] if len(sys.argv) > 1 else None
    if stage not in (None, *STAGES):
        sys.exit(f"There is no stage {stage!r}; the stages are {', '.join(STAGES)}.")
    try:
        logs.configure_logging(settings().log_level)
        lifetime.end_with_parent()
        run(settings(), stage)
    except CallscopeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
