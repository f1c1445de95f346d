"""What every call has: both ends, its turn, what it may take, what it tells."""
