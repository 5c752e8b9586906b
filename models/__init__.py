"""What the numbers mean: events, account state, windows, scores. Pure: no clock, no socket, no environment."""
