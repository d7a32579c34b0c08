"""Types of numbers that know what they can be; a record that is read with another value is refused.

Bounds are wide: they leave out what cannot be, not what is unusual. A float that has bounds is
finite as well. Bounds are checked where a record is read, and not where code makes one.
"""

from typing import Annotated, Final

import msgspec

# Whole numbers that JSON readers everywhere keep exactly.
_MOST: Final = 2**53
# A day: no timeout of edgese is longer.
_DAY_NS: Final = 86_400 * 10**9

Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]
# Height, width, channels and other sides of tensors.
LARGEST_SIDE: Final = 2**31 - 1
Side = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_SIDE)]
Number = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]
ExitCode = Annotated[int, msgspec.Meta(ge=0, le=255)]

Nanoseconds = Annotated[int, msgspec.Meta(ge=1, le=_DAY_NS)]
# A nanosecond at least.
# A time or a size of whatever unit, above 0.
Figure = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
Milliseconds = Annotated[float, msgspec.Meta(ge=1e-6, le=1e9)]
# Of what may take no time at all.
Delay = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Mebibytes = Annotated[float, msgspec.Meta(ge=0, le=1e9)]

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
OpenShare = Annotated[float, msgspec.Meta(gt=0, le=1)]
# Of a rate that leaves something.
Fraction = Annotated[float, msgspec.Meta(ge=0, lt=1)]
# Of an interval.
Confidence = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
# How many times as large; of ratios and speeds.
Factor = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
# Rounding may lead a hair beyond 1.
Cosine = Annotated[float, msgspec.Meta(ge=-1.001, le=1.001)]
Decibels = Annotated[float, msgspec.Meta(ge=-1000, le=1000)]
# Sensors tell nonsense now and then, and a number all the same.
Celsius = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Megahertz = Annotated[float, msgspec.Meta(ge=0, le=1e7)]
Load = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
