"""Errors for the analyst: what was wrong, the value, what is allowed, what to do next.

Each class is also the builtin that a Python programmer would expect to catch. The command line prints the
message on one line, without a traceback, and exits with `exit_code`.
"""

from cssd_geo.messages import without_secrets


class CssdGeoError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        """Say what was wrong, without secrets: GDAL too names what it cannot read by its whole address."""
        super().__init__(without_secrets(message))


class InputError(CssdGeoError, ValueError):
    """An option or an argument that cannot be used."""

    exit_code = 2


class SceneError(CssdGeoError, OSError):
    """A scene that cannot be opened, read or used with this model."""

    exit_code = 3


class SceneOutOfReachError(SceneError):
    """A scene whose files cannot be reached any more, for a while or for good, while it is read."""


class LabelError(CssdGeoError, ValueError):
    """Labels that cannot be read or do not suffice."""

    exit_code = 4


class ModelFileError(CssdGeoError, OSError):
    """A model file that is missing, damaged, foreign or of another version."""

    exit_code = 5


class OutputError(CssdGeoError, OSError):
    """An output that cannot be written or must not be overwritten."""

    exit_code = 6


class ClusterError(CssdGeoError, RuntimeError):
    """A Dask cluster that cannot be reached, or whose workers cannot do the job."""

    exit_code = 8


class BatchError(CssdGeoError):
    """Some scenes of a batch failed; the others are done."""

    exit_code = 7
