"""Masks for scans that have only a digital signal: template matching (Li et al. 2020, section 2.2)."""
