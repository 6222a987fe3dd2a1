"""The foundations: types, hand-written rules, checks, trees, files."""
