"""What lies on the disk survives a kill: rows, whole files and folders, locks of a run."""
