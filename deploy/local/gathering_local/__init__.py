"""The whole mesh on one machine: embedded PostgreSQL, the edge, and every service as a process.

The code and the edge's configuration are production's; only addresses and keys differ. One folder
holds all state. Whatever a killed supervisor left is adopted or ended by the next one.
"""
