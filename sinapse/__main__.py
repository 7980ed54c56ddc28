"""``python -m sinapse``: the console command, where the folder of commands is not on PATH."""

from sinapse.cli import main

if __name__ == "__main__":
    main(prog_name="sinapse")
