"""Measuring on a device that is elsewhere: a file goes there, a file comes back.

`make_bundle` packs artifacts, runner, plan and `driver.py` into one file; what it leaves there is
read by `import_results`.
"""

from edgese.measure.bundles.importing import import_results
from edgese.measure.bundles.packing import Packed, make_bundle

__all__ = ["Packed", "import_results", "make_bundle"]
