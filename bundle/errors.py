"""The one exception of this package. Knows nothing about who reads or shows it."""


class BundleError(Exception):
    """A bundle, or a file that should become one, is not as the contract says.

    The fault lies with whoever wrote the bundle, never with a caller of the service. The message reads
    "file: what is wrong; what is allowed" and names only files inside the bundle: it may be logged or shown.
    """
