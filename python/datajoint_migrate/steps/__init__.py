"""What is done: one file a step of the migration, each a function with a result of plain dicts."""
