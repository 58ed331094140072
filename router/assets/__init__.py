"""Assets: files that callers upload, that come with jobs, and that models make."""
