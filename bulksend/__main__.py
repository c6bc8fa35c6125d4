"""`python -m bulksend` is the same as `bulksend`."""

from __future__ import annotations

from bulksend.cli import main

if __name__ == "__main__":
    main()
