"""The commands of ``gpuvos``, a file each with ``run(arguments) -> exit status``; ``options`` has what they take."""
