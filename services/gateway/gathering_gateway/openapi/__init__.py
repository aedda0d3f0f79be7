"""The OpenAPI 3.1 document: paths, bounds and comments come from the contract."""
