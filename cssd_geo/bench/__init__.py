"""How fast it is, on the machine at hand: `cssd-geo bench`."""
