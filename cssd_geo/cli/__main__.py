"""`python -m cssd_geo.cli`."""

from cssd_geo.cli import main

main()
