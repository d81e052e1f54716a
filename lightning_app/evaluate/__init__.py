"""Segmentation, signals, clinical parameters, agreement and statistics."""
