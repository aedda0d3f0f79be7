"""The commands that talk to a mesh, one module for each noun."""
