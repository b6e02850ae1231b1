"""A model at work on tiles: one tile, all of them on this machine or on a cluster, or as dask blocks."""
