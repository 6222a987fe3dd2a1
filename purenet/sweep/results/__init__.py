"""The result of a sweep: tables, pictures, exports."""
