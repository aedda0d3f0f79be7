"""What agents and users know: stored, scoped, recalled.

Owns memories with their postings and embeddings, and a copy of who belongs to which scope. A memory
is found by its words once `Remember` is answered, by its meaning once it is embedded; no model is
called on the way in. Whoever may not see a scope finds nothing of it.
"""
