"""One small app for each system, as its documentation shows. Each is imported in its own environment only."""
