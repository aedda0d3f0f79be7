"""Files of a workspace, reached from its open directory only: no path and no race leads outside."""
