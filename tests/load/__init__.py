"""Benchmarks: each figure beside a raw baseline of the same work in the same run (`make bench`)."""
