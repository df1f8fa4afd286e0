"""`python -m callboard.cli` is the `callboard` command."""

from callboard import cli

if __name__ == "__main__":
    cli.main()
