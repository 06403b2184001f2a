"""The methods to be measured against, through their own packages: elastix, ANTs, SimpleITK, and aligned centres.

Their packages are optional (``requirements-peers.txt``). Each runs as its users would on this problem, with the smaller
field as what it calls fixed unless its name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

from .ants import ANTS, ants_package
from .base import Peer, PeerResult, limit_threads
from .elastix import ELASTIX, elastix_package
from .simple import centres, identity, mass
from .simple_itk import SIMPLE_ITK, sitk_package

__all__ = ["PEERS", "Peer", "PeerResult", "load_packages"]

PEERS: dict[str, Peer] = {"identity": identity, "centres": centres, "mass": mass, **ELASTIX, **ANTS, **SIMPLE_ITK}


def load_packages(methods: Iterable[str], threads: int) -> None:
    """Load what the named methods need, so that no method's time includes it, and limit its threads.

    Raises:
        InputError: a package is not installed.
    """
    limit_threads(threads)
    for group, package in ((ELASTIX, elastix_package), (ANTS, ants_package), (SIMPLE_ITK, sitk_package)):
        if any(method in group for method in methods):
            package()
