"""The cached data set: format, loader, pages."""
