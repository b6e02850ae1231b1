"""The values that a field of a GeoPackage may have: QGIS offers them as a list to choose from.

GeoPackage 1.3, extension "Schema", enumerations; GDAL calls them coded field domains.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

_TABLES = """
CREATE TABLE gpkg_data_columns (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, title TEXT, description TEXT, mime_type TEXT,
    constraint_name TEXT,
    CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name), CONSTRAINT gdc_tn UNIQUE (table_name, name));
CREATE TABLE gpkg_data_column_constraints (
    constraint_name TEXT NOT NULL, constraint_type TEXT NOT NULL, value TEXT,
    min NUMERIC, min_is_inclusive BOOLEAN, max NUMERIC, max_is_inclusive BOOLEAN, description TEXT,
    CONSTRAINT gdcc_ntv UNIQUE (constraint_name, constraint_type, value));
"""
_EXTENSION = ("gpkg_schema", "http://www.geopackage.org/spec121/#extension_schema", "read-write")


def with_choices(package: bytes, layer: str, field: str, choices: Sequence[str]) -> bytes:
    """Add a list of values, all different, for a text field of a layer to a GeoPackage that has no such list."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(package)
        database.executescript(_TABLES)
        database.execute(
            "INSERT INTO gpkg_data_columns (table_name, column_name, constraint_name) VALUES (?, ?, ?)",
            (layer, field, field),
        )
        database.executemany(
            "INSERT INTO gpkg_data_column_constraints (constraint_name, constraint_type, value, description) "
            "VALUES (?, 'enum', ?, ?)",
            [(field, choice, choice) for choice in choices],
        )
        database.executemany(
            "INSERT INTO gpkg_extensions (table_name, extension_name, definition, scope) VALUES (?, ?, ?, ?)",
            [(table, *_EXTENSION) for table in ("gpkg_data_columns", "gpkg_data_column_constraints")],
        )
        database.commit()
        return database.serialize()
