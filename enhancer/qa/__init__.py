"""Physical tests of a model: objects whose truth is known, and what becomes of them.

An enlarger is given what a detector with larger pixels would have measured, and is judged by what it gives
back of the object and by what it adds.
"""
