"""What a sweep found: table, pictures, exports."""
