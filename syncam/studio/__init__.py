"""The page: ``layout`` what stands where, ``handlers`` what happens on events, ``rig_view`` the cameras, ``player``,
``history``, ``settings`` of a run, ``texts``, ``theme``; behind it ``engine`` (models), ``jobs`` (the queue),
``results`` (on disk); towards the outside ``server`` (limits), ``api`` (for programs), ``errors``."""
