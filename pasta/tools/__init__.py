"""Tools around a run: reports, dry runs, export, speed."""
