"""`hanbit bench`: whole payments by all three parties in processes of their own, measured beside the floors of the same run."""
