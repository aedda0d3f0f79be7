"""The door of Gathering: who may come in, what happens inside, and the edge that clients talk to.

Owns users, API keys, logins and delegations (schema `gateway`), issues the tokens that every
service verifies, merges the services' event logs into one feed, and makes the edge's configuration
and the OpenAPI document from the contract.
"""
