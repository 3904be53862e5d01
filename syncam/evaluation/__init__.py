"""What a result is worth: measures of one video, tables over many, our modules against the published code, speed.

``measures`` is what can be said of one video. The readers (``subject_reader``, ``camera_reader``) tell what a single
picture shows, ``agreement`` whether the views place the subject in one spot of the world. Another reader is another
module beside them, called in ``measures.measure_scene``.
"""
