"""`penstock`: the command."""

from penstock_cli.app import main

if __name__ == "__main__":
    main()
