"""Looking at schemas, copies, stores and servers; nothing is changed."""
