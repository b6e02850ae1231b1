"""Sensor products: one module each. `products.open_scene` chooses among them.

A module has `recognises(path)`, quick and without a guess, and `open_product(path)`, which returns the Scene.
"""
