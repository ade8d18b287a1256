"""``python -m latentcell``."""

import sys

from latentcell.cli import main

if __name__ == "__main__":
    sys.exit(main())
