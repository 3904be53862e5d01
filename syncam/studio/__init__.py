"""The page: ``layout`` what stands where, ``rig_view`` the camera desk, ``player``, ``history``, ``settings`` of a run,
``jobs`` runs and models, ``api`` for programs, ``doors`` what comes in, ``texts`` what is said."""
