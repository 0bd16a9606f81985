"""``python -m crossprop.cli``: the same as the command ``crossprop``."""

from crossprop.cli import main

if __name__ == "__main__":
    main()
