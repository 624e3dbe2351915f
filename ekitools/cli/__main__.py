"""``python -m ekitools.cli``, the same as ``ekitools``."""

import sys

from ekitools.cli import main

if __name__ == "__main__":  # worker processes import this module
    sys.exit(main())
