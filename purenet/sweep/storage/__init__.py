"""A sweep's folder: files that are complete or absent, and how a sweep resumes from them."""
