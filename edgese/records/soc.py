"""What is known of a chip that a vendor's compiler compiles for; a file in targets/socs."""

from edgese.records.base import Record
from edgese.records.bounds import Count


class SocFacts(Record, frozen=True):
    """The facts of a Snapdragon whose Hexagon has a tensor processor (HTP).

    Attributes:
        name: Qualcomm's part number in small letters, as in "sm8650".
        title: what phones' data sheets call it.
        soc_model: its number in Qualcomm's libraries.
        htp: version of the tensor processor's architecture, as in 75.
        source: where the numbers stand, with the version.
    """

    name: str
    title: str
    soc_model: Count
    htp: Count
    source: str
