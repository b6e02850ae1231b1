"""The shapes of a label file in a scene's pixels: which of these they label, window by window if need be."""

import numpy as np
import shapely

from cssd_geo.grid import Grid
from cssd_geo.labels import Labels
from cssd_geo.messages import listed
from cssd_geo.tiles import Window
from cssd_geo.vectors.burning import burn, extents, near, single_geometries
from cssd_geo.vectors.legend import tabulate
from cssd_geo.vectors.placement import datum_notes, to_pixels
from cssd_geo.vectors.remapping import Remapping
from cssd_geo.vectors.shapes import Shapes


class PlacedShapes:
    """Shapes in pixel coordinates, part by part, and how many pixels they were found to label.

    Attributes:
        table: their classes.
        ids_given: whether the ids are those of the file; else its names were numbered.
    """

    def __init__(
        self, shapes: Shapes, grid: Grid, remap: Remapping | None, *, all_touched: bool, name: str
    ) -> None:
        """Bring shapes into the pixels of a grid.

        Raises:
            LabelError: if they have no place there, or the rules do not fit their classes.
        """
        legend, renamed = (shapes.legend, ()) if remap is None else remap.apply(shapes.legend)
        self.table, lookup = tabulate(legend)
        self.ids_given = any(entry is not None and entry.id is not None for entry in legend)
        kept = lookup[shapes.classes] >= 0
        parts, owners = single_geometries(shapes.geometries[kept])
        self._classes = lookup[shapes.classes[kept]][owners]
        self._are_points = not shapely.get_dimensions(parts).any()
        self._parts, self._all_touched = to_pixels(parts, shapes.crs, grid, name), all_touched
        self._extents = extents(self._parts)
        self._outside = ~near(self._extents, grid.window)
        self._counts = np.zeros(len(parts), np.int64)
        self._places = self._clashes = 0
        self._notes = (*shapes.notes, *datum_notes(shapes.crs, grid, name), *renamed)

    def burn(self, window: Window) -> Labels:
        """Return the pixels of a window that they label, but for those that two classes claim; see `notes`.

        Windows that overlap would be counted twice.
        """
        chosen = np.flatnonzero(near(self._extents, window))
        found, rows, cols = burn(self._parts[chosen], window, all_touched=self._all_touched)
        parts = chosen[found]
        self._counts += np.bincount(parts, minlength=len(self._counts))
        claimed = Labels(
            rows=rows,
            cols=cols,
            classes=self._classes[parts],
            polygons=parts,
            table=self.table,
            ids_given=self.ids_given,
        )
        labels, clashes = claimed.uncontested()
        self._places += len(labels) + clashes
        self._clashes += clashes
        return labels

    def notes(self) -> tuple[str, ...]:
        """Say what was left out or repaired, once all windows of the grid were burnt."""
        kind, outside, count = "points" if self._are_points else "polygons", self._outside, len(self._parts)
        notes = list(self._notes)
        if outside.any():
            away = np.setdiff1d(self._classes[outside], self._classes[~outside])
            of = f", among them all of {listed(self.table.names[k] for k in away)}" if away.size else ""
            notes.append(f"{outside.sum()} of {count} {kind} lie outside of the scene{of}.")
        if empty := int((~outside & (self._counts == 0)).sum()):
            hint = "" if self._all_touched else " (--all-touched would label the pixels that they touch)"
            notes.append(f"{empty} of {count} {kind} cover no pixel centre{hint}.")
        found = int(self._counts.sum())
        if self._are_points and self._places < found:
            notes.append(f"{found} points lie in {self._places} pixels: each pixel counts once.")
        return (*notes, *clash_notes(self._clashes))


def clash_notes(clashes: int) -> tuple[str, ...]:
    """Tell of pixels that two classes claim."""
    return (f"{clashes} pixels claimed by two classes were left out.",) if clashes else ()
