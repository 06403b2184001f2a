"""The methods to be measured against, through their own packages, and aligned centres.

The packages (elastix, ANTs, SimpleITK, Greedy, plastimatch, Regix) are optional (``requirements-peers.txt``). Each runs as
its users would on this problem, with the smaller field as what it calls fixed unless its name says otherwise; Regix's preset
wants the larger one.
"""

from __future__ import annotations

from collections.abc import Iterable

from .ants import ANTS, ants_package
from .base import Peer, PeerResult, limit_threads
from .elastix import ELASTIX, elastix_package
from .greedy import GREEDY, greedy_package
from .plastimatch import PLASTIMATCH, plastimatch_package
from .regix import REGIX, regix_package
from .simple import centres, identity, mass
from .simple_itk import SIMPLE_ITK, sitk_package

__all__ = ["PEERS", "Peer", "PeerResult", "load_packages"]

GROUPS = (
    (ELASTIX, elastix_package),
    (ANTS, ants_package),
    (SIMPLE_ITK, sitk_package),
    (GREEDY, greedy_package),
    (PLASTIMATCH, plastimatch_package),
    (REGIX, regix_package),
)
PEERS: dict[str, Peer] = {"identity": identity, "centres": centres, "mass": mass}
for _methods, _ in GROUPS:
    PEERS |= _methods


def load_packages(methods: Iterable[str], threads: int) -> None:
    """Load what the named methods need, so that no method's time includes it, and limit its threads.

    Raises:
        InputError: a package is not installed.
    """
    limit_threads(threads)
    for group, package in GROUPS:
        if any(method in group for method in methods):
            package()
