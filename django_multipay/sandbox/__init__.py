"""A stand-alone world of payment providers, for building and testing a shop offline.

It is written from the providers' documents alone and shares no code with the rest
of the package: two sides that share a function also share its mistakes.
"""
