"""Bands picked by hand; bands of one sensor as those of another."""
