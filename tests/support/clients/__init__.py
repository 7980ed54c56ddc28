"""Clients of event streams that applications use, and what runs them for the tests."""
