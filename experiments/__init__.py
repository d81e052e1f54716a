"""Sweep files; each opens with its command, cost and expected result."""
