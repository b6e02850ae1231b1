"""What headers and tags say of a raster and its bands, and what they leave open."""
