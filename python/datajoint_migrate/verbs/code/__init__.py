"""Programs written for 0.14.6 as programs for 2.x."""
