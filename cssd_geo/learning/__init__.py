"""From labels to a fitted network: pixels, windows, whitening, training, and what cross-validation says."""
