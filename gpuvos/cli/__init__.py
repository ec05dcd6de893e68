"""The commands of ``gpuvos``, one file each with ``run(arguments) -> exit status``; what they take is in ``options``."""
