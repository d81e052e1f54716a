"""The application: sweeps, cells, evaluation, digitization and reports."""
