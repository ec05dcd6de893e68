"""Options of the commands: ``add_arguments(parser)`` and ``check(arguments)``, which import nothing heavy.

So a typing error is answered at once, and not after the seconds that importing torch takes.
"""
