"""Files moved: where pointers lead on both sides, and the batches behind them."""
