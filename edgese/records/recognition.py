"""Whether a machine is the device that it is taken for.

Needs nothing but Python: bundles carry this file to where they are measured.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase


def recognised(properties: Mapping[str, str], answers: Mapping[str, str]) -> bool:
    """Whether a machine's ``answers`` are those of the device with ``properties``.

    Every property must be there. A value is a pattern, or several with "|" between them: "*" stands
    for any characters, so that "Raspberry Pi 5 Model B*" takes all revisions; capitals count. A
    file's NUL at the end is nothing. A device without properties is never recognised.
    """
    return bool(properties) and all(
        any(
            fnmatchcase(answers.get(key, "").rstrip("\0\n"), pattern)
            for pattern in patterns.split("|")
        )
        for key, patterns in properties.items()
    )
