"""The entry point of ``hrnet-deploy`` and of ``python -m hrnet_deploy``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C while its modules are still being imported ends quietly."""
    try:
        from hrnet_deploy.cli import main as run

        run()
    except KeyboardInterrupt:
        from hrnet_deploy.errors import EXIT_SIGINT

        sys.exit(EXIT_SIGINT)


if __name__ == "__main__":
    main()
