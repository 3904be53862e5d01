"""Training: ``embedded`` the small model that comes with the package, ``module`` the multi-view module in any base.

Options have what they share, and their parser, in ``config``; the ``loop`` is one.
"""
