"""`python -m sinks`: run the sink with the configuration in force, until a signal or its parent's end."""

import sys

from callscope import lifetime
from callscope.config import settings
from callscope.errors import CallscopeError
from sinks.app import main

if __name__ == "__main__":
    lifetime.end_with_parent()
    try:
        main(settings())
    except CallscopeError as error:
        sys.exit(f"sink: {error}")
