"""Schedulers: how long each point is trained, decided round by round."""
