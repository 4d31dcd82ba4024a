"""The command line's way in, `callscope` or `python -m callscope`; quiet at Ctrl-C from the first moment on."""

import sys


def main() -> None:
    """Run the command line; it is imported here so that Ctrl-C during the import is quiet too."""
    try:
        from callscope.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
