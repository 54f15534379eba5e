"""The commands of the command line, one a module: `command` is the click command. They parse, call and print."""
