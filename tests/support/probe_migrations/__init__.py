"""The schema of a service that exists for the tests of the mesh alone."""
