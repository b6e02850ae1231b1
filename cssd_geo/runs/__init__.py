"""A run that survives: what it depends on, what is done, and the rasters at its end."""
