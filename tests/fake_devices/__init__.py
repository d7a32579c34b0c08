"""Stand-ins for devices, so that everything around them can be tried without one.

`FakeDevice` answers jobs with a function. `FakePhone` is an adb daemon on 127.0.0.1 that the real
`adb` client takes for a phone.
"""

from fake_devices.answering import FakeDevice
from fake_devices.phone import FakePhone, Fault

__all__ = ["FakeDevice", "FakePhone", "Fault"]
