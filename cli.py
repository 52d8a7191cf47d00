"""The front door of a checkout; an installation has `scannas`, which enters at the same place."""

from nas.commands.main import main

if __name__ == "__main__":
    main()
