"""`python -m keras_makeavid` is `makeavid`."""

import sys

from keras_makeavid.cli import main

sys.exit(main())
