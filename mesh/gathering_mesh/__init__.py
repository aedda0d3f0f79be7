"""The plumbing that every service of Gathering stands on: serving, calling, state, events, work.

It owns no data and knows no domain noun. What a service says is in its own package; what all
services need to keep the promises (tenancy, deadlines, idempotency, order) is here, once.
"""
