"""The entry point of `fabric-node`: what the user did wrong is one line on stderr and exit status 2, never a stack trace.

Not about the commands (commands.py), whose imports take a second: Ctrl-C is answered from before them.
"""

import signal
import sys
from types import FrameType


def main() -> None:
    """Runs the command line. Ctrl-C ends it with status 0 until the command has its own way to end."""
    signal.signal(signal.SIGINT, _end)
    from protos.errors import FabricError  # noqa: PLC0415 - see above
    from router.commands import app  # noqa: PLC0415
    from router.supervisor import EXIT_CONFIGURATION  # noqa: PLC0415

    try:
        app()
    except FabricError as error:
        sys.stderr.write(f"fabric-node: {error.message}\n")
        sys.exit(EXIT_CONFIGURATION)


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
