"""``python -m tlclassify`` is the command line."""

import sys

from tlclassify.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
