"""Measured claims: each script runs a peer and us in one run, and checks that the results agree."""
