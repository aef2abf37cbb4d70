"""Measured claims: each script runs a peer and us in one run, on the same data, and checks that results agree."""
