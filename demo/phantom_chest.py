"""The anatomy of the phantom: body, rib cage, lungs, heart, spine, abdomen, vessels and airways.

It is drawn in mm around the middle of the chest: x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from noduleserve.demo.phantom_canvas import Array, Grid, Mottle, Point, cut, fill, join, mirrored, oval, tube

AIR, FAT, MEDIASTINAL_FAT, MUSCLE, BLOOD, LIVER = -1000.0, -105.0, -90.0, 52.0, 42.0, 58.0
CORTEX, MARROW, DISC, CARTILAGE, CORD = 720.0, 210.0, 85.0, 120.0, 30.0
PARENCHYMA = -862.0
NOISE_HU = 20.0

Sphere = tuple[Array, float]  # centre [3] mm, radius mm

# --------------------------------------------------------------------------------------------------
# Shapes of the chest, each a signed distance at the points x, y, z (mm, broadcastable)
# --------------------------------------------------------------------------------------------------


def _narrowing(z: Array) -> Array:
    """How far the rib cage has closed at this height: 1 over its lower half, near 0.2 at the apex."""
    return np.sqrt(np.maximum(1.0 - (np.maximum(z + 40.0, 0.0) / 156.0) ** 2, 0.04))


def _body(x: Array, y: Array) -> Array:
    return oval((mirrored(x) - 48.0, 110.0), (y + 4.0, 106.0))


def _cage(x: Array, y: Array, z: Array) -> Array:
    s = _narrowing(z)
    return oval((mirrored(x) - 46.0 * s, 88.0 * s), (y + 8.0 - 14.0 * (1.0 - s), 82.0 * s))


def _heart(x: Array, y: Array, z: Array) -> Array:
    tilted = x - 20.0 - 0.25 * (y + 28.0) + 0.3 * (z + 45.0)
    return oval((tilted, 52.0), (y + 28.0, 43.0), (z + 45.0, 50.0))


def _mediastinum(x: Array, y: Array, heart: Array) -> Array:
    column = oval((x, 25.0), (y - 2.0, 48.0))
    anterior = oval((x + 3.0, 7.0), (y + 62.0, 40.0))
    spine = oval((x, 24.0), (y - 60.0, 28.0))
    return join(join(join(column, anterior, 14.0), spine, 10.0), heart - 3.0, 14.0)


def _below_diaphragm(x: Array, y: Array, z: Array) -> Array:
    # The right dome stands higher, on the liver.
    top = -66.0 - 4.0 * np.clip(x / 20.0, -1.0, 1.0)
    dome = top - (mirrored(x, 10.0) - 78.0) ** 2 / 78.0 - (y + 8.0) ** 2 / 105.0
    return (z - dome) * 0.8  # the slope makes the height overstate the distance


def lung(x: Array, y: Array, z: Array) -> Array:
    """Signed distance (mm) to the surface of the lungs, negative inside either."""
    chest = cut(_cage(x, y, z), _mediastinum(x, y, _heart(x, y, z)), 12.0)
    return cut(chest, _below_diaphragm(x, y, z), 12.0)


# --------------------------------------------------------------------------------------------------
# Painting the chest
# --------------------------------------------------------------------------------------------------


def chest(grid: Grid, rng: np.random.Generator) -> Array:
    """Paint everything but vessels, airways and nodules: HU float32 [z, y, x]."""
    fine, coarse = Mottle(rng, grid, scale_mm=4.0), Mottle(rng, grid, scale_mm=18.0)
    hu = np.full(grid.shape_zyx, AIR, np.float32)
    for index, g in grid.slices():
        part = hu[index]
        cage, heart, below = _cage(g.x, g.y, g.z), _heart(g.x, g.y, g.z), _below_diaphragm(g.x, g.y, g.z)
        aerated = cut(cut(cage, _mediastinum(g.x, g.y, heart), 12.0), below, 12.0)
        _table(*_crop(part, g, (-180, 90), (180, 135)))
        _chest_wall(part, g, cage)
        for side in (-1, 1):
            _scapula(*_crop(part, g, (side * 100 - 45, 15), (side * 100 + 45, 100)), side)
        _ribs(part, g, cage)
        _sternum(*_crop(part, g, (-24, -125), (24, 40)))
        fill(part, cage, MEDIASTINAL_FAT)
        fill(part, heart, BLOOD)
        _abdomen(part, g, np.maximum(cage + 2.0, below + 2.0))
        _spine(*_crop(part, g, (-40, 34), (40, 102)))
        fill(part, aerated, _parenchyma(g, 12.0 * fine(g) + 9.0 * coarse(g)))
    return hu


def _crop(hu: Array, g: Grid, low: tuple[float, float], high: tuple[float, float]) -> tuple[Array, Grid]:
    """The part of a slice between two corners (x, y): organs of small reach need no work on the rest."""
    index, near = g.around((*low, -1e4), (*high, 1e4))
    return hu[index], near


def _table(hu: Array, g: Grid) -> None:
    top = 109.0 - g.x * g.x / 2200.0
    across = oval((g.x, 168.0), (g.y - top - 8.0, 8.0))
    fill(hu, across, -640.0)
    fill(hu, across + 1.6, -930.0)


def _chest_wall(hu: Array, g: Grid, cage: Array) -> None:
    skin = _body(g.x, g.y)
    fill(hu, skin, 15.0)
    fill(hu, skin + 2.0, FAT)
    muscle = join(oval((mirrored(g.x) - 46.0, 96.0), (g.y - 2.0, 93.0)), cage - 13.0, 10.0)
    fill(hu, np.maximum(muscle, skin + 5.0), MUSCLE)
    # Fat between the layers of muscle, and in the armpits, which widen as the rib cage narrows.
    fill(hu, np.maximum(np.abs(cage - 15.5) - 0.9, muscle + 4.0), FAT + 30.0, softness=2.5)
    if float(g.z.max()) > -10.0:
        armpit = oval((np.abs(g.x) - 112.0, 30.0), (g.y + 34.0 - 0.3 * np.abs(g.x), 34.0), (g.z - 70.0, 78.0))
        fill(hu, np.maximum(armpit, 14.0 - cage), FAT + 12.0, softness=6.0)


def _scapula(hu: Array, g: Grid, side: int) -> None:
    x, y = side * g.x - 99.0, g.y - 62.0
    along = 0.8 * x - 0.6 * y
    plate = oval((along, 30.0), (0.6 * x + 0.8 * y + along**2 / 180.0, 4.0))
    plate = np.maximum(plate, np.abs(g.z - 48.0) - 50.0)
    fill(hu, plate, CORTEX)
    fill(hu, plate + 1.8, MARROW)


def _ribs(hu: Array, g: Grid, cage: Array) -> None:
    # Ribs descend from the back to the front, and turn to cartilage before they reach the sternum.
    level = np.mod(g.z - 0.5 * g.y + 0.06 * np.abs(g.x), 26.0) - 13.0
    rib = np.maximum(oval((cage - 6.5, 4.2), (level, 6.5)), 14.0 - np.abs(g.x))
    bony = np.clip((g.y + 64.0) / 6.0, 0.0, 1.0)
    fill(hu, rib, CARTILAGE + bony * (CORTEX - CARTILAGE))
    fill(hu, rib + 1.9, CARTILAGE + bony * (MARROW - CARTILAGE))


def _sternum(hu: Array, g: Grid) -> None:
    s = _narrowing(g.z)
    front = 6.0 - 94.0 * s  # where the pleura is in the midline
    bone = np.maximum(oval((g.x, 19.0), (g.y - front + 6.0, 5.5)), -62.0 - g.z)
    fill(hu, bone, CORTEX - 200.0)
    fill(hu, bone + 1.5, MARROW - 60.0)


def _spine(hu: Array, g: Grid) -> None:
    level = np.abs(np.mod(g.z, 25.0) - 12.5)
    column = cut(oval((g.x, 17.5), (g.y - 54.0, 15.0)), oval((g.x, 9.0), (g.y - 72.0, 8.0)), 3.0)
    arch = join(oval((g.x, 13.5), (g.y - 73.0, 11.0)), oval((g.x, 3.2), (g.y - 88.0, 10.0)), 3.0)
    process = oval((np.abs(g.x) - 20.0, 13.0), (g.y - 72.0 - 0.25 * np.abs(g.x), 4.5), (level, 8.0))
    fill(hu, column, DISC)
    for bone in (np.maximum(join(arch, process, 4.0), level - 11.0), np.maximum(column, level - 10.0)):
        fill(hu, bone, CORTEX - 150.0)
        fill(hu, bone + 1.8, MARROW)
    fill(hu, oval((g.x, 9.0), (g.y - 73.0, 7.5)), FAT + 60.0)
    fill(hu, oval((g.x, 5.0), (g.y - 73.0, 4.0)), CORD)


def _abdomen(hu: Array, g: Grid, cavity: Array) -> None:
    """Paint diaphragm, liver, spleen and stomach; `cavity` is the distance to what they lie in."""
    if float(cavity.min()) > 2.0:
        return
    fill(hu, cavity - 2.0, MUSCLE)
    fill(hu, cavity, FAT)
    fill(hu, np.maximum(cavity, oval((g.x + 70.0, 104.0), (g.y + 10.0, 92.0))), LIVER)
    fill(hu, np.maximum(cavity, oval((g.x - 104.0, 34.0), (g.y - 28.0, 46.0))), LIVER - 8.0)
    stomach = np.maximum(cavity + 1.0, oval((g.x - 72.0, 38.0), (g.y + 30.0, 44.0), (g.z + 112.0, 38.0)))
    fill(hu, stomach, BLOOD)
    # A patient on the back has the stomach's air in front of its fluid, level between them.
    fill(hu, np.maximum(stomach + 3.0, g.y + 34.0), -960.0)
    fill(hu, np.maximum(stomach + 3.0, -34.0 - g.y), 12.0)


def _parenchyma(g: Grid, mottle: Array) -> Array:
    """HU of aerated lung: denser toward the back, where blood settles, and with the oblique fissures."""
    side = np.clip(g.x / 10.0, -1.0, 1.0)
    fissure = (g.z + 14.0 - (0.95 + 0.1 * side) * g.y + 0.003 * (g.x - 40.0) ** 2 + (g.y / 20.0) ** 2) / 1.4
    return PARENCHYMA + 0.28 * g.y + mottle + 85.0 * np.clip(1.25 - np.abs(fissure), 0.0, 1.0)


def add_noise(hu: Array, rng: np.random.Generator) -> None:
    """Add quantum noise, smoothed in the slice as a reconstruction kernel smooths it."""
    rows, columns = hu.shape[1:]
    for plane in hu:
        white = rng.standard_normal((rows + 2, columns + 2), dtype=np.float32)
        smooth = white[:-2] + 2.0 * white[1:-1] + white[2:]
        smooth = smooth[:, :-2] + 2.0 * smooth[:, 1:-1] + smooth[:, 2:]
        plane += smooth * np.float32(NOISE_HU / 6.0)  # 6 is the gain of (1 2 1) by (1 2 1) on white noise


# --------------------------------------------------------------------------------------------------
# Vessels and airways
# --------------------------------------------------------------------------------------------------

_Course = tuple[list[Point], tuple[float, float], float]

_GREAT_VESSELS: tuple[_Course, ...] = (
    # aorta: root, ascending part, arch, descending part
    ([(4, -24, -20), (-10, -30, 8), (-8, -24, 30), (4, -6, 40)], (14, 13), BLOOD),
    ([(4, -6, 40), (16, 14, 38), (22, 30, 26)], (13, 12.5), BLOOD),
    ([(22, 30, 26), (27, 33, 0), (26, 32, -50), (20, 29, -125)], (12.5, 11), BLOOD),
    # arteries from the arch, superior vena cava, brachiocephalic vein
    ([(-4, -18, 40), (-16, -8, 70), (-20, -4, 125)], (6.5, 5.5), BLOOD),
    ([(6, -4, 44), (12, -2, 80), (14, 0, 125)], (4.5, 4), BLOOD),
    ([(14, 8, 42), (22, 10, 80), (26, 10, 125)], (5, 4.5), BLOOD),
    ([(-22, -14, 125), (-21, -20, 60), (-22, -18, -20)], (7, 9.5), BLOOD),
    # pulmonary trunk and main pulmonary arteries
    ([(18, -34, -10), (20, -22, 10), (22, -10, 16)], (13.5, 12), BLOOD),
    ([(20, -14, 12), (-4, -8, 8), (-26, -2, 6), (-38, 4, 4)], (10.5, 6), BLOOD),
    ([(22, -8, 17), (36, 2, 16), (46, 10, 10)], (10, 6), BLOOD),
    # oesophagus
    ([(4, 22, 125), (2, 26, 40), (6, 28, -125)], (6.5, 6.5), 34.0),
)
_TRACHEA: tuple[tuple[list[Point], tuple[float, float]], ...] = (
    ([(0, 0, 125), (-1, 4, 60), (0, 8, 26)], (8.8, 8.4)),
    ([(0, 8, 26), (-14, 9, 14), (-32, 10, 2)], (6.8, 5.2)),
    ([(0, 8, 26), (18, 11, 10), (40, 13, -2)], (6.2, 5.0)),
)
_LUNG_ROOTS: dict[str, tuple[Point, Point]] = {
    "artery": ((-38, 4, 4), (46, 10, 10)),
    "vein": ((-30, -2, -16), (38, 0, -14)),
    "bronchus": ((-32, 10, 2), (40, 13, -2)),
}


def _course(points: list[Point], radii: tuple[float, float]) -> Iterator[tuple[Array, tuple[float, float]]]:
    """The straight pieces of a bent tube: ends [2, 3] mm and the radius at each."""
    taper = np.linspace(*radii, len(points))
    for k, ends in enumerate(itertools.pairwise(np.array(points, float))):
        yield np.array(ends), (float(taper[k]), float(taper[k + 1]))


def great_vessels(hu: Array, grid: Grid) -> None:
    """Paint the aorta and its branches, the caval and pulmonary trunks, and the oesophagus."""
    for points, radii, value in _GREAT_VESSELS:
        for ends, width in _course(points, radii):
            tube(hu, grid, ends, width, value)


def lung_vessels(hu: Array, grid: Grid, rng: np.random.Generator, keep_out: Sequence[Sphere]) -> None:
    """Paint the arteries and veins of both lungs, leaving the spheres of `keep_out` free."""
    for kind, tips, tip_mm in (("artery", 450, 0.53), ("vein", 310, 0.51)):
        for root in _LUNG_ROOTS[kind]:
            starts, ends, served = _grow_tree(rng, root, tips, 5.0, keep_out)
            radii = np.minimum(tip_mm * served ** (1 / 2.7), 4.6)
            for a, b, r in zip(starts, ends, radii, strict=True):
                tube(hu, grid, np.array([a, b]), (float(r), float(r)), BLOOD)


def airways(hu: Array, grid: Grid, rng: np.random.Generator, keep_out: Sequence[Sphere]) -> None:
    """Paint the trachea and the bronchi, leaving the spheres of `keep_out` free."""
    tubes = [piece for points, radii in _TRACHEA for piece in _course(points, radii)]
    for root in _LUNG_ROOTS["bronchus"]:
        starts, ends, served = _grow_tree(rng, root, 26, 28.0, keep_out)
        radii = np.minimum(0.9 * served ** (1 / 2.4), 4.0)
        tubes += [(np.array([a, b]), (float(r), float(r))) for a, b, r in zip(starts, ends, radii, strict=True)]
    # All the walls before all the lumens, or a branch would wall off its parent.
    for ends, (r0, r1) in tubes:
        tube(hu, grid, ends, (1.15 * r0 + 0.5, 1.15 * r1 + 0.5), -150.0)
    for ends, (r0, r1) in tubes:
        tube(hu, grid, ends, (r0, r1), -985.0)


def _grow_tree(
    rng: np.random.Generator, root: Point, tips: int, margin_mm: float, keep_out: Sequence[Sphere]
) -> tuple[Array, Array, Array]:
    """Grow a tree from `root` through its lung; its pieces' starts [n, 3], ends [n, 3] mm, tips served [n].

    Tips fall at random; each joins the tree where the way to it and on to the root is short, and leaves its
    parent at a slant. A vessel's calibre follows from the tips it serves, as Murray's law has it.
    """
    targets = _points_in_lung(rng, np.sign(root[0]), tips, margin_mm)
    nodes, way = np.empty((60 * tips, 3)), np.zeros(60 * tips)  # way: mm along the tree from the root
    nodes[0], parents, leaves = root, [-1], []
    for target in targets:
        known = nodes[: len(parents)]
        cost = np.sqrt(((known - target) ** 2).sum(1)) + 0.35 * way[: len(parents)]
        likely = np.argpartition(cost, min(12, len(cost) - 1))[:12]
        cost = cost[likely] + 60.0 * (lung(*((known[likely] + target) / 2).T) > -2.0)
        cost += 1e4 * _meets(known[likely], target, keep_out)
        if cost.min() >= 1e4:
            continue
        at = int(likely[np.argmin(cost)])
        start = nodes[at]
        onward = start - nodes[parents[at]] if at else target - start
        length = float(np.linalg.norm(target - start))
        bend = start + onward / (np.linalg.norm(onward) + 1e-9) * 0.3 * length
        steps = max(int(length / 5.0), 1)
        t = np.arange(1, steps + 1)[:, None] / steps
        points = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t * t * target
        points += rng.normal(0.0, 0.35, points.shape)
        new = len(parents)
        nodes[new : new + steps] = points
        way[new : new + steps] = way[at] + length * t[:, 0]
        parents += [at, *range(new, new + steps - 1)]
        leaves.append(new + steps - 1)
    served = np.zeros(len(parents))
    for at in leaves:
        while at:
            served[at] += 1
            at = parents[at]
    return nodes[parents[1:]], nodes[1 : len(parents)], served[1:]


def _points_in_lung(rng: np.random.Generator, side: float, count: int, margin_mm: float) -> Array:
    """Draw points [count, 3] in one lung (side -1 right, +1 left), `margin_mm` or more from its surface."""
    found = np.empty((0, 3))
    while len(found) < count:
        points = rng.uniform((18.0, -95.0, -110.0), (140.0, 80.0, 112.0), (4 * count, 3)) * (side, 1.0, 1.0)
        found = np.concatenate([found, points[lung(*points.T) < -margin_mm]])
    return found[:count]


def _meets(starts: Array, end: Array, spheres: Sequence[Sphere]) -> NDArray[np.bool_]:
    """Tell which of the straight lines from `starts` [n, 3] to `end` [3] run through any of the spheres."""
    way = end - starts
    length2 = (way * way).sum(1) + 1e-9
    hits = np.zeros(len(starts), bool)
    for centre, radius in spheres:
        off = centre - starts
        along = np.minimum(np.maximum((off * way).sum(1) / length2, 0.0), 1.0)[:, None]
        hits |= ((off - along * way) ** 2).sum(1) < radius * radius
    return hits
