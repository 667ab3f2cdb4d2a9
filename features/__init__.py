"""What every job must agree on: the front end, the records, the labels, the contracts on disk."""

import sys

from features.supported import require_python

require_python(sys.version_info[:2])
