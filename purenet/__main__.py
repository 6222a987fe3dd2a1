"""`python -m purenet` is the command `purenet`."""

import sys

from purenet.cli import main

if __name__ == "__main__":
    sys.exit(main())
