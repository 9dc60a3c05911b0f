"""``python -m skillrl.cli`` is the ``skillrl`` command."""

import sys

from skillrl.cli import main

if __name__ == "__main__":
    sys.exit(main())
