"""Entry point of `python -m archc`, which is the command `archc`."""

import sys

from archc.cli import main

sys.exit(main())
