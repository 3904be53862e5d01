"""The page: ``layout`` what stands where, ``rig_view`` the camera desk, ``player``, ``jobs`` runs, ``api``."""
