"""Cohorts, layouts, pages, rendering, folds and the LightningDataModules."""
