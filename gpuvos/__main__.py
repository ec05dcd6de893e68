"""``python -m gpuvos``."""

import sys

from gpuvos.cli import main

sys.exit(main())
