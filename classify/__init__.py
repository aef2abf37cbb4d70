"""Cache in, model out: train, evaluate, predict."""
