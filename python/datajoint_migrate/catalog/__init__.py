"""What is there: servers, schemas, tables, external columns and stores."""
