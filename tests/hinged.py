"""A body whose lower half turns about a hinge between two scans, known at every point."""

import torch
from oracle import body_hu, centred
from scripts.core.geometry import ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import make_volume

SIZE = 1.4  # the oracle's body, so much larger: 266 x 196 x 308 mm
HINGE_MM = torch.tensor([0.0, 0.0, -20.0], dtype=torch.float64)
UPPER = RigidTransform.about([4.0, -3.0, 6.0], [12.0, -8.0, 15.0], [0.0, 0.0, 0.0])  # fixed to moving
BLEND_MM = 8.0


def lower(turn_deg=(20.0, 0.0, 0.0)):
    """The lower half's map, fixed to moving: the hinge turns first."""
    return UPPER @ RigidTransform.about(turn_deg, [0.0, 0.0, 0.0], HINGE_MM)


def hinged_pair(turn_deg=(20.0, 0.0, 0.0), spacing=5.0, middle=(0.0, 0.0, 20.0), field=(52, 40, 50)):
    """The whole body, and a smaller field of it after the hinge has turned; HU.

    Args:
        turn_deg: of the hinge, rotation vector.
        spacing: of both, mm.
        middle: of the small field, in the frame of the body before it was moved.
        field: voxels of the small one.
    """
    shape = (62, 50, 74)
    affine = centred("RAS", shape, spacing)
    fixed = body_hu(ijk_to_mm(lattice_ijk(shape), affine) / SIZE)
    place = UPPER(torch.tensor([middle], dtype=torch.float64))[0]
    small = centred("RAS", field, spacing, place)
    straight = UPPER.inverse()(ijk_to_mm(lattice_ijk(field), small))
    weight = torch.sigmoid((HINGE_MM[2] - straight[:, 2:]) / BLEND_MM)
    back = RigidTransform.about(turn_deg, [0.0, 0.0, 0.0], HINGE_MM).inverse()(straight)
    moving = body_hu((straight + weight * (back - straight)) / SIZE)
    return (
        make_volume(fixed.float().reshape(1, *shape), affine, {"name": "fixed_scan"}),
        make_volume(moving.float().reshape(1, *field), small, {"name": "moving_scan"}),
    )


def apart_mm(found, truth, half):
    """Mean distance in mm between two maps over a box in the fixed body's upper or lower half, 25 mm off the hinge."""
    axis = torch.tensor([-60.0, 0.0, 60.0], dtype=torch.float64)
    heights = HINGE_MM[2] + torch.tensor([25.0, 60.0, 95.0], dtype=torch.float64) * (1 if half == "upper" else -1)
    points = torch.cartesian_prod(axis, axis, heights)
    return float((found(points) - truth(points)).norm(dim=-1).mean())
