"""Label files: geometries with a class each, whatever the format, and the pixels in them."""
