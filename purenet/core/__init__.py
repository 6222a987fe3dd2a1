"""What everything else stands on: types, hand-written rules, checks, trees, files."""
