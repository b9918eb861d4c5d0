"""Of the app itself see README.md beside this file."""
