"""Where cells run: local, ray or slurm behind one seam."""
