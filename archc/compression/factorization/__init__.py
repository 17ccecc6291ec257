"""Factorization of weights into factors of low rank."""
