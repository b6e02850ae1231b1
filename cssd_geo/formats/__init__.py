"""Sensor products: one module each, and what several of them share. `products.open_scene` chooses among them.

A product's own module has `recognises(path)`, quick and without a guess, and `open_product(path)`, which returns
the Scene; or, where these are those of an `XmlProduct`, a `PRODUCT` that has them.
"""
