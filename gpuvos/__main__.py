"""``python -m gpuvos``."""

import sys

from gpuvos.cli.main import main

sys.exit(main())
