"""Foundations of all compiled code: vectors, threads, machine code on disk."""
