"""Tests of the page generator."""
