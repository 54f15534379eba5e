"""One command of the command line a module; `command` is the click command. They parse, call and print."""
