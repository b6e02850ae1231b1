"""Names by which files tell rows from columns: of dimensions, and CF's `axis` and `standard_name`."""

from collections.abc import Iterable

_DOWN = {"y", "lat", "latitude", "northing", "row", "rows", "line", "lines", "scan", "scans", "number_of_lines"}
_DOWN |= {"downtrack", "along_track", "alongtrack", "number_of_scans", "nrows", "projection_y_coordinate"}
_ACROSS = {"x", "lon", "longitude", "easting", "col", "cols", "column", "columns", "sample", "samples", "pixel"}
_ACROSS |= {"pixels", "crosstrack", "across_track", "acrosstrack", "cross_track", "pixels_per_line"}
_ACROSS |= {"pixels_per_scan", "ncols", "projection_x_coordinate"}


def axis_named(names: Iterable[str]) -> str | None:
    """Which axis names stand for, together: "y" or "x"; None where none does, or they contradict each other."""
    known = {name.lower() for name in names}
    if bool(known & _DOWN) == bool(known & _ACROSS):
        return None
    return "y" if known & _DOWN else "x"
