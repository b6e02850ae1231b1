"""The outside world in: a scene as a lazy xarray cube, its sources of pixels, and what travels with them."""
