"""Tables, figures and pages made from the per-scan rows."""
