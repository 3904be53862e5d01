"""What a result is worth: measures of one video, tables over many, our modules against the published code, speed.

``measures`` is what can be said of one video. It asks ``subject`` where the subject is in each picture, ``agreement``
whether the views place it in one spot of the world, and the readers (``shape_reader``, ``camera_reader``) what a single
picture shows. Another reader is another module beside them, called in ``measures.measure_scene``.
"""
