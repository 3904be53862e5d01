"""Commands of the command line, by what they need: :mod:`syncam.__main__` puts them together."""
