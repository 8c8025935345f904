"""``python -m convmae_det COMMAND …`` is ``convmae-det COMMAND …``."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
