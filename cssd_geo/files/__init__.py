"""Files: ours, whole or absent; those of others, read safely, and where they lead; rasters by windows."""
