"""Tests of what is in sinapse/publisher/runs/."""
