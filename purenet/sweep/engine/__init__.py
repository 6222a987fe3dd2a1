"""The compiled program that trains many trials, and the lanes they train in."""
