"""A package, so that its daemon, gateway, server and built page are one for all files, and end with them."""
