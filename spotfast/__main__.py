"""`python -m spotfast`: see `spotfast.cli.main`."""

import sys

from spotfast.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
