"""What agents can do: tools, grants, workspaces, executions.

Owns the catalogue of skills, who may use what of it, the directories that tools may touch, and each
run of a tool as a row that outlives the RPC which asked for it. No path leads out of a workspace;
nothing runs that the boundary did not let pass; what happens once is never repeated.
"""

import os

# Read when gRPC is imported. Its handlers run between fork and exec of each process that looks at
# sources, and now and then end it there ("the handler is closed", uvloop says to its parent).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
