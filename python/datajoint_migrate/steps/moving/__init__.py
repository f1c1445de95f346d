"""What every step that moves rows or files is made of."""
