"""What the operator sees: the command line, its settings, progress."""
