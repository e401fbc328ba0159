"""Settings of runs as records: what a laptop does in minutes and what the papers did."""
