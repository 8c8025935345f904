"""Studies: several trainings that differ in something, run, compared and drawn."""
