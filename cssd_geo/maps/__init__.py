"""The outside world out: rasters written window by window, made whole and verified; and class maps read back."""
