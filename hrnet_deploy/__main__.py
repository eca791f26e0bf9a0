"""``python -m hrnet_deploy``: the same as the command ``hrnet-deploy``."""

from __future__ import annotations

from hrnet_deploy.cli import main

if __name__ == "__main__":
    main()
