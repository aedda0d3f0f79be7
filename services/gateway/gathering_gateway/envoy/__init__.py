"""The edge's configuration: Envoy alone faces clients, and is told what to do by this package.

Plain dicts that become JSON; routes, access rules and streams come from the contract.
"""
