"""Publish messages, and say who may receive them: the library for applications.

Synchronous, thread-safe and fork-safe; it needs Redis only, never the daemon, and never imports
Twisted.
"""
