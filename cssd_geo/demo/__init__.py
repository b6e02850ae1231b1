"""The embedded demonstration: a made-up scene, and the whole way from labels to accuracy on it."""
