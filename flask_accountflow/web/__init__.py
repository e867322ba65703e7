"""HTTP: one view class for every flow, and two formats that it answers in."""
