"""A sweep's folder: complete or absent files, and how a sweep resumes from them."""
