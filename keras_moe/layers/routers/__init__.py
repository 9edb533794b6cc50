"""Routers: the choice of experts for each token."""
