"""Reads what a Linux kernel tells of its machine through /proc and /sys; pure.

Needs nothing but Python: bundles carry this file to where they are measured.

`QUESTIONS` is a script for any POSIX shell, `parts` takes its answer apart. Formats:
https://docs.kernel.org/admin-guide/pm/cpufreq.html,
https://docs.kernel.org/driver-api/thermal/sysfs-api.html (thousandths of a degree).
"""

import re
from typing import Final

HEADING: Final = "== edgese "
# Sensors that are not there often read 0; none of a machine that runs is hotter than this.
_PLAUSIBLE_C: Final = (1.0, 150.0)

QUESTIONS: Final = f"""\
h() {{ printf '\\n%s%s\\n' '{HEADING}' "$1"; }}
h zones
for z in /sys/class/thermal/thermal_zone*; do
    t=$(cat "$z/temp" 2>/dev/null) && printf '%s %s\\n' "$t" "$(cat "$z/type" 2>/dev/null)"
done
h cores
for c in /sys/devices/system/cpu/cpu[0-9]*; do
    n=${{c##*cpu}}; f=$c/cpufreq
    printf '%s %s %s %s %s\\n' "$n" "$(cat "$c/online" 2>/dev/null || echo 1)" \\
        "$(cat "$f/cpuinfo_max_freq" 2>/dev/null || echo -)" \\
        "$(cat "$f/scaling_cur_freq" 2>/dev/null || echo -)" \\
        "$(cat "$f/scaling_governor" 2>/dev/null || echo -)"
done
h machine; uname -m
h system; uname -sr
h memory; cat /proc/meminfo 2>/dev/null
h load; cat /proc/loadavg 2>/dev/null
true"""


def parts(text: str) -> dict[str, str]:
    """The answers by their headings."""
    found = {}
    for part in f"\n{text}".replace("\r\n", "\n").split(f"\n{HEADING}")[1:]:
        name, _, content = part.partition("\n")
        found[name] = content
    return found


def plausible(value_c: float) -> bool:
    """Whether a sensor of that reading is one."""
    return _PLAUSIBLE_C[0] <= value_c <= _PLAUSIBLE_C[1]


def temperatures(text: str) -> dict[str, float]:
    """The thermal zones' readings in degrees Celsius, by type."""
    zones = {}
    for line in text.splitlines():
        value, _, name = line.partition(" ")
        if re.fullmatch(r"-?[0-9]{1,9}", value) and name and plausible(int(value) / 1000):
            zones[name] = int(value) / 1000
    return zones


def memory_mb(text: str) -> int | None:
    """All memory, from /proc/meminfo."""
    found = re.search(r"^MemTotal:\s+([0-9]{1,18}) kB", text, re.MULTILINE)
    return int(found.group(1)) // 1024 if found else None


def load_average(text: str) -> float | None:
    """Of the last minute, from /proc/loadavg."""
    found = re.match(r"\s*(\d+\.\d+)\s", text)
    return float(found.group(1)) if found else None
